"""One time-boxed run: what the trainer is given."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from owt_leaderboard.budget.sizing import flops_per_training_token
from owt_leaderboard.recipe.assembly import SCHEDULE_STEPS, learning_rate_schedule, make_model, make_optimizer
from owt_leaderboard.recipe.recipes import Recipe
from owt_leaderboard.run.decisions import recipe_to_record

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bpe import Tokenizer
    from nnscratch import LanguageModel
    from trainer import Logger, Summary, TrainConfig
    from trainer.evaluation import LossFunction
    from trainer.loggers.protocol import Record

WandbMode = Literal["auto", "online", "offline", "disabled"]
SAMPLE_TOKENS = 32


@dataclass(frozen=True)
class Data:
    """A tokenizer and token files."""

    tokenizer_directory: Path
    train_tokens: Path
    valid_tokens: Path

    def recorded(self) -> dict[str, str]:
        """The places, for the records of a run."""
        return {
            "tokenizer": str(self.tokenizer_directory.resolve()),
            "train_tokens": str(self.train_tokens.resolve()),
            "valid_tokens": str(self.valid_tokens.resolve()),
        }


def train_config(recipe: Recipe, *, time_limit_seconds: float | None, steps: int | None, device: str) -> "TrainConfig":
    """The trainer's settings: for a time limit, or for a number of optimizer steps."""
    from trainer import TrainConfig

    ticks = max(1, (steps or SCHEDULE_STEPS) // recipe.evaluations)
    return TrainConfig(
        steps=steps or SCHEDULE_STEPS,
        clock="time" if steps is None else "steps",
        time_limit_seconds=time_limit_seconds,
        batch_size=recipe.batch_size,
        context_length=recipe.context_length,
        sampling=recipe.sampling,
        max_grad_norm=recipe.max_grad_norm,
        eval_interval=ticks,
        eval_tokens=recipe.evaluated_windows * recipe.context_length + 1,
        log_interval=max(1, ticks // 10),
        checkpoint_interval=None,
        checkpoint_seconds=60.0 if time_limit_seconds is None else max(1.0, min(60.0, time_limit_seconds / 20)),
        seed=recipe.seed,
        device=device,
        compile=recipe.compile,
        batch_ramp=recipe.batch_ramp,
        average_from=recipe.average_from,
    )


class ClosedLater:
    """A logger that the trainer does not close: what it still has to upload can wait until all else is done.

    Args:
        logger: which one; who made it closes it.
    """

    def __init__(self, logger: "Logger") -> None:
        self.logger = logger
        self.label = type(logger).__name__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logger, name)

    def log(self, record: "Record") -> None:
        """Pass a record on."""
        self.logger.log(record)

    def close(self) -> None:
        """Leave it open."""


def make_loggers(wandb: WandbMode) -> "list[Logger]":
    """Who is told of a run: the console, and Weights & Biases if asked for, whose last uploads come after the limit.

    Raises:
        ModuleNotFoundError: wandb is asked for and not installed.
    """
    from trainer import ConsoleLogger, Logger, WandbLogger

    loggers: list[Logger] = [ConsoleLogger()]
    if wandb != "disabled":
        loggers.append(ClosedLater(WandbLogger(wandb, project=os.environ.get("WANDB_PROJECT", "owt-leaderboard"))))
    return loggers


def close_at_last(loggers: "list[Logger]") -> None:
    """Close those that the trainer has left open, and wait for their uploads; a failure is only warned about."""
    from trainer.loggers import LoggerGroup

    LoggerGroup(logger.logger for logger in loggers if isinstance(logger, ClosedLater)).close()


def write_text(model: "nn.Module", tokenizer: "Tokenizer", tokens: int, *, seed: int, texts: int = 1) -> list[str]:
    """Texts that the model makes up, each of so many tokens, from the end of a document on.

    Raises:
        ValueError: the tokenizer has no end-of-text token.
    """
    import torch

    from nnscratch import generate

    if tokenizer.eot_id is None:
        raise ValueError("the tokenizer has no <|endoftext|>: train one with it, since texts begin there")
    start = torch.full((texts, 1), tokenizer.eot_id, device=next(model.parameters()).device)
    token_ids = generate(
        cast("LanguageModel", model), start, max_new_tokens=tokens, temperature=0.8, top_p=0.95, seed=seed
    )
    return [tokenizer.decode(row[1:].tolist()) for row in token_ids]


def make_loss(recipe: Recipe, tokenizer: "Tokenizer") -> "LossFunction":
    """The mean loss of a batch; in training a byte that no text has takes the place of the `masked_inputs`."""
    import torch

    share, mask_id = recipe.masked_inputs or 0.0, tokenizer.encode("\0")[0]

    def loss(module: "nn.Module", inputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        if share and module.training:
            inputs = inputs.masked_fill(torch.rand(inputs.shape, device=inputs.device) < share, mask_id)
        return cast("LanguageModel", module).loss(inputs, targets)

    return loss


def train(
    recipe: Recipe,
    data: Data,
    tokenizer: "Tokenizer",
    run_dir: Path,
    *,
    time_limit_seconds: float | None = None,
    steps: int | None = None,
    seconds_before: Callable[[], float] = lambda: 0.0,
    seconds_of_earlier_sessions: float = 0.0,
    device: str,
    loggers: "list[Logger]",
) -> "tuple[nn.Module, Summary]":
    """Train until the time is used up, the final validation and its records included, or a number of steps is made.

    Args:
        recipe: what to train.
        data: token files.
        tokenizer: that of the token files.
        run_dir: where the records go; a run that was interrupted there goes on with the time it has left.
        time_limit_seconds: until the last record of the trainer.
        steps: of the optimizer, instead of a time limit.
        seconds_before: tells what this process has spent of it until now.
        seconds_of_earlier_sessions: what others have.
        device: "auto" or a device name.
        loggers: who is told.

    Returns:
        The trained model and the summary.

    Raises:
        ValueError: the limit is too short, or the directory holds another run.
        trainer.TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
    """
    import torch

    from trainer import TokenDataset, Trainer
    from trainer.distributed.rank import find_place, resolve_process_device

    torch.manual_seed(recipe.seed)
    model = make_model(recipe, tokenizer.vocab_size, resolve_process_device(device, find_place()))

    def sample(module: "nn.Module", step: int) -> str:
        return write_text(module, tokenizer, SAMPLE_TOKENS, seed=recipe.seed)[0]

    summary = Trainer(
        model,
        make_optimizer(model, recipe, device),
        make_loss(recipe, tokenizer),
        TokenDataset(data.train_tokens),
        TokenDataset(data.valid_tokens),
        train_config(recipe, time_limit_seconds=time_limit_seconds, steps=steps, device=device),
        learning_rate_schedule(recipe, steps or SCHEDULE_STEPS),
        run_dir,
        loggers,
        sample=sample,
        recorded={"recipe": recipe_to_record(recipe, run_dir), **data.recorded()},
        flops_per_token=flops_per_training_token(recipe, tokenizer.vocab_size),
        seconds_before=seconds_before(),
        seconds_of_earlier_sessions=seconds_of_earlier_sessions,
    ).fit()
    return model, summary
