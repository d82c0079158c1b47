"""`generate`: text from a model, printed token by token."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from tinystories.writing import SAMPLE_PROMPT, Sampling


@dataclass(frozen=True)
class Generate:
    """Continue a prompt with a trained model."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    prompt: str = SAMPLE_PROMPT
    """Beginning of the text, which is printed too."""
    samples: int = 1
    """Number of continuations, with consecutive seeds."""
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"

    def run(self) -> int:
        """Print the text as the tokens come."""
        from tinystories.writing import load, stream_story

        if self.samples < 1:
            raise ValueError(f"--samples {self.samples}: expected at least 1")
        model, tokenizer = load(self.run_directory, self.device)
        for number in range(self.samples):
            if self.samples > 1:
                print(f"--- {number + 1} of {self.samples}")
            print(self.prompt, end="", flush=True)
            sampling = replace(self.sampling, seed=self.sampling.seed + number)
            for piece in stream_story(model, tokenizer, self.prompt, sampling):
                print(piece, end="", flush=True)
            print()
        return 0
