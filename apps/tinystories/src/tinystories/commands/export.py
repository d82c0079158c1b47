"""`export`: a model in the format of other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Export:
    """Write a trained model in the format of another program."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    out: Annotated[Path, tyro.conf.Positional]
    """Destination: a directory, or for gguf a file."""
    format: Literal["huggingface", "gguf"] = "huggingface"
    """"huggingface": a directory for AutoModelForCausalLM and AutoTokenizer of transformers; "gguf": a file for
    llama.cpp. Both support only Llama models: pre-norm, RoPE, SwiGLU."""

    def run(self) -> int:
        """Export, and print how to open the result."""
        from nnscratch import export_huggingface
        from nnscratch.interchange.gguf import export_gguf
        from tinystories.writing import load, tokenizer_directory

        if any((self.out / name).exists() for name in ("checkpoints", "metrics.jsonl", "experiment.json")):
            raise ValueError(
                f"{self.out} holds a training run, which an export would damage: choose another destination"
            )
        model, _ = load(self.run_directory, "cpu")
        tokenizer = tokenizer_directory(self.run_directory)
        if self.format == "gguf":
            export_gguf(model, tokenizer, self.out)
            print(f"{self.out}: for llama.cpp and programs based on it")
            return 0
        export_huggingface(model, tokenizer, self.out)
        print(f"{self.out}: open it with transformers.AutoModelForCausalLM.from_pretrained({str(self.out)!r})")
        return 0
