"""Commands that let a trained model write, export it, or serve a page; an app subclasses them.

A subclass sets `app` and the default of `prompt`, and marks the directories as positional.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from trainer.experiments.runs import App, Sampling, stream_text
from trainer.experiments.texts import tokenizer_of


@dataclass(frozen=True)
class Generate:
    """Continue a prompt with a trained model."""

    app: ClassVar[App]

    run_directory: Path
    """Run directory."""
    prompt: str
    """Beginning of the text, which is printed too."""
    samples: int = 1
    """Number of continuations, with consecutive seeds."""
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""

    def run(self) -> int:
        """Print the text as the tokens come."""
        if self.samples < 1:
            raise ValueError(f"--samples {self.samples}: expected at least 1")
        trained = self.app.load(self.run_directory, self.device)
        for number in range(self.samples):
            if self.samples > 1:
                print(f"--- {number + 1} of {self.samples}")
            print(self.prompt, end="", flush=True)
            sampling = replace(self.sampling, seed=self.sampling.seed + number)
            for piece in stream_text(self.app.models, trained.model, trained.tokenizer, self.prompt, sampling):
                print(piece, end="", flush=True)
            print()
        return 0


@dataclass(frozen=True)
class Play:
    """Serve a web page on which a trained model writes, with the probability of each token and its alternatives."""

    app: ClassVar[App]

    run_directory: Path
    """Run directory."""
    port: int = 8000
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on: only this machine can reach 127.0.0.1; 0.0.0.0 is open to the network."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""

    def run(self) -> int:
        """Serve until Ctrl-C."""
        if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
            lacking = f"play needs {' and '.join(missing)}, not installed here"
            raise ModuleNotFoundError(f"{lacking}: pip install {' '.join(missing)} (or packages/trainer[play])")
        from trainer.experiments.playground import play

        play(self.app, self.run_directory, self.host, self.port, self.device)
        print("stopped")
        return 0


@dataclass(frozen=True)
class Export:
    """Write a trained model in the format of another program, or without the state of its training."""

    app: ClassVar[App]

    run_directory: Path
    """Run directory."""
    out: Path
    """Destination: a directory, or for gguf a file."""
    format: Literal["huggingface", "gguf", "native"] = "huggingface"
    """"huggingface": a directory for AutoModelForCausalLM and AutoTokenizer of transformers; "gguf": a file for
    llama.cpp. Both support only Llama models: pre-norm, RoPE, SwiGLU. "native": a directory of save_pretrained, for
    every model."""

    def run(self) -> int:
        """Export, and print how to open the result."""
        if any((self.out / name).exists() for name in ("checkpoints", "metrics.jsonl", "experiment.json")):
            raise ValueError(
                f"{self.out} holds a training run, which an export would damage: choose another destination"
            )
        trained, out = self.app.load(self.run_directory, "cpu"), str(self.out)
        kind = type(trained.model)
        if self.format == "native":
            trained.model.save_pretrained(self.out)
            trained.tokenizer.save_pretrained(self.out)
            print(f"{out}: open it with {kind.__module__}.{kind.__name__}.from_pretrained({out!r})")
            return 0
        tokenizer = tokenizer_of(self.run_directory)
        if self.format == "gguf":
            self.app.models.export_gguf(trained.model, tokenizer, self.out)
            print(f"{out}: for llama.cpp and programs based on it")
            return 0
        self.app.models.export_huggingface(trained.model, tokenizer, self.out)
        print(f"{out}: open it with transformers.AutoModelForCausalLM.from_pretrained({out!r})")
        return 0
