"""`export`: a model as other programs read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Export:
    """Write a trained model for other programs."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    out: Annotated[Path, tyro.conf.Positional]
    """Where to: a directory, or for gguf a file."""
    format: Literal["huggingface", "gguf"] = "huggingface"
    """"huggingface": a directory that AutoModelForCausalLM and AutoTokenizer of transformers open; "gguf": a file for
    llama.cpp. Both know only Llamas: pre-norm, RoPE, SwiGLU."""

    def run(self) -> int:
        """Export, and say how the result is opened."""
        from nnscratch import export_huggingface
        from nnscratch.interchange.gguf import export_gguf
        from tinystories.writing import load, tokenizer_directory

        if any((self.out / name).exists() for name in ("checkpoints", "metrics.jsonl", "experiment.json")):
            raise ValueError(f"{self.out} has records of training, which an export would damage: choose another place")
        model, _ = load(self.run_directory, "cpu")
        tokenizer = tokenizer_directory(self.run_directory)
        if self.format == "gguf":
            export_gguf(model, tokenizer, self.out)
            print(f"{self.out}: for llama.cpp and what is built on it")
            return 0
        export_huggingface(model, tokenizer, self.out)
        print(f"{self.out}: opens with transformers, AutoModelForCausalLM.from_pretrained({str(self.out)!r})")
        return 0
