"""`generate`: text from a model, printed token by token."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tinystories.flags import SamplingFlags
from tinystories.writing import SAMPLE_PROMPT


@dataclass(frozen=True)
class Generate:
    """Continue a prompt with a trained model."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    prompt: str = SAMPLE_PROMPT
    samples: int = 1
    """Number of continuations."""
    sampling: SamplingFlags = field(default_factory=SamplingFlags)
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
            story = stream_story(
                model,
                tokenizer,
                self.prompt,
                max_new_tokens=self.sampling.max_new_tokens,
                temperature=self.sampling.temperature,
                top_k=self.sampling.top_k,
                top_p=self.sampling.top_p,
                seed=self.sampling.seed + number,
            )
            print(self.prompt, end="", flush=True)
            for piece in story:
                print(piece, end="", flush=True)
            print()
        return 0
