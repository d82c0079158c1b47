"""Training of one recipe on prepared data into a run directory."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import tyro

from tinystories.building import make_model, make_optimizer
from tinystories.recipes import Recipe
from tinystories.writing import SAMPLE_PROMPT, write_story
from trainer.experiments.runs import Sampling, recorded_of
from trainer.experiments.texts import TokenFiles as TokenFiles

if TYPE_CHECKING:
    from trainer import Logger, Summary, TrainConfig

EVALUATED_TOKENS = 4096  # lower limit for a forward pass: small evaluation batches are slow
WandbMode = Literal["auto", "online", "offline", "disabled"]
CHANGEABLE = ("steps", "time_limit_seconds", "batch_size", "max_grad_norm", "evaluations")
"""Settings of a recipe with which a run may go on."""


@dataclass(frozen=True)
class Machine:
    """The machine."""

    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1. A time limit of ten minutes or more on a
    CPU needs cpu here."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Data type of the matrix products; "auto" chooses a fast and safe one for the device."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; "auto" only on CUDA."""
    halve_on_out_of_memory: tyro.conf.SuppressFixed[tyro.conf.Fixed[bool]] = True  # no flag
    """Continue with smaller micro-batches when a batch does not fit into memory, instead of ending the run."""

    @property
    def device_type(self) -> str:
        """Type of the device: "cuda", "mps" or "cpu"."""
        from trainer import resolve_device

        return resolve_device(self.device).type

    def expected_flops(self, seconds: float) -> float | None:
        """Return the operations that the devices of a run are expected to compute in a time limit; None for a CPU."""
        from trainer import resolve_device
        from trainer.distributed import read_ranks
        from trainer.experiments.speed_trial import expected_flops

        if self.device_type == "cpu":
            return None
        return expected_flops(resolve_device(self.device), seconds, processes=read_ranks().world_size, dtype=self.dtype)

    def check_compilers(self, mode: Literal["auto", "on", "off"] | None = None) -> None:
        """Refuse a machine that lacks a compiler which its runs would need; `mode` takes the place of `compile`."""
        from trainer.devices import check_compilers

        kind, mode = self.device_type, mode or self.compile
        compiles = mode == "on" or (mode == "auto" and kind == "cuda")
        check_compilers(kind, compiles=compiles, without="--compile off")


def make_loggers(wandb: WandbMode, *, quiet: bool = False) -> "list[Logger]":
    """Return the receivers of a run's records: the console, unless it is quiet, and Weights & Biases if requested.

    Raises:
        ModuleNotFoundError: wandb is requested and not installed.
    """
    from trainer import ConsoleLogger, WandbLogger

    loggers: list[Logger] = [] if quiet else [ConsoleLogger()]
    if wandb != "disabled":
        loggers.append(WandbLogger(wandb, project=os.environ.get("WANDB_PROJECT", "tinystories")))
    return loggers


def train_config(recipe: Recipe, machine: Machine) -> "TrainConfig":
    """Configuration of the training loop for a recipe on a machine."""
    from trainer import TrainConfig

    interval = max(1, recipe.steps // recipe.evaluations)
    return TrainConfig(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        context_length=recipe.context_length,
        eval_batch_size=max(recipe.batch_size, EVALUATED_TOKENS // recipe.context_length),
        max_grad_norm=recipe.max_grad_norm,
        time_limit_seconds=recipe.time_limit_seconds,
        clock="steps" if recipe.time_limit_seconds is None else "time",
        eval_interval=interval,
        log_interval=max(1, interval // 2),
        checkpoint_interval=interval,
        checkpoint_seconds=60.0,
        seed=recipe.seed,
        device=machine.device,
        dtype=machine.dtype,
        compile=machine.compile,
        halve_on_out_of_memory=machine.halve_on_out_of_memory,
    )


def learning_rate_schedule(recipe: Recipe) -> Callable[[int], float]:
    """Linear warm-up, then a cosine that reaches its minimum at the last step."""
    from nnscratch import cosine_schedule

    def schedule(step: int) -> float:
        return cosine_schedule(
            step + 1,  # the first update has step 0, and a rate of zero would waste it
            max_lr=recipe.learning_rate,
            min_lr=recipe.learning_rate * recipe.final_learning_rate_fraction,
            warmup_steps=round(recipe.steps * recipe.warmup_fraction),
            decay_steps=recipe.steps,
        )

    return schedule


def train(
    recipe: Recipe,
    files: TokenFiles,
    run_dir: Path,
    machine: Machine,
    *,
    quiet: bool = False,
    wandb: WandbMode = "disabled",
    init_from: Path | None = None,
) -> "Summary":
    """Train one model into a run directory; resume an interrupted run, and only read a finished one.

    A finished run with more steps or time than before goes on. A new one begins with the weights of `init_from`, a run
    or a directory with a model.safetensors, if it is given.

    Raises:
        ModuleNotFoundError: wandb is requested and not installed.
        ValueError: The directory holds a run of another recipe or program, or the data do not fit the recipe.
        trainer.TrainingInterrupted: A signal such as SIGINT or SIGTERM arrived; everything is saved.
    """
    from torch import nn

    from bpe import Tokenizer
    from nnscratch import TransformerLM, flops_per_token
    from trainer import TokenDataset, Trainer

    if (run_dir / "config.json").exists():
        recorded_of(run_dir, "tinystories")
    loggers = make_loggers(wandb, quiet=quiet)
    tokenizer = Tokenizer.from_pretrained(files.tokenizer)
    model = make_model(recipe, tokenizer.vocab_size)

    def sample(module: nn.Module, step: int) -> list[str]:
        if recipe.time_limit_seconds is None and step < recipe.steps:
            return []
        return [write_story(cast(TransformerLM, module), tokenizer, SAMPLE_PROMPT, Sampling(seed=recipe.seed))]

    trainer = Trainer(
        model,
        make_optimizer(model, recipe),
        lambda module, inputs, targets: cast(TransformerLM, module).loss(inputs, targets),
        TokenDataset(files.train),
        TokenDataset(files.valid),
        train_config(recipe, machine),
        learning_rate_schedule(recipe),
        run_dir,
        loggers=loggers,
        sample=sample,
        recorded={"recipe": asdict(recipe), "tokenizer_sha256": tokenizer.sha256},
        changeable=[f"recipe.{name}" for name in CHANGEABLE],
        init_from=init_from,
        flops_per_token=flops_per_token(model.config, backward=True),
    )
    files.copy_tokenizer(run_dir)
    return trainer.fit()
