"""One training run, for a time limit or a number of steps, with this app's samples and records."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnscratch import speedrun
from nnscratch.speedrun import Recipe
from owt_leaderboard.report import write_text
from owt_leaderboard.run.decisions import check_app
from owt_leaderboard.texts import TokenFiles
from trainer.experiments.speedrun import train as train_recipe

if TYPE_CHECKING:
    from bpe import Tokenizer
    from nnscratch import SpeedrunLM
    from trainer import Logger, Summary

SAMPLE_TOKENS = 32
"""Tokens of the text that the model writes at each evaluation."""


def check_beginning(recipe: Recipe, run_dir: Path, device: str) -> None:
    """Check what would end a run at its start, so that a command can do so before it prepares a text for hours.

    Raises:
        ValueError: If the directory holds a run of another program or version, or several processes train tables of
            n-grams on CPUs.
    """
    from trainer.distributed import read_ranks, resolve_process_device

    check_app(run_dir)
    ranks, tables = read_ranks(), recipe.model.ngram_rows
    if ranks.world_size > 1 and tables is not None and resolve_process_device(device, ranks).type == "cpu":
        raise ValueError(
            f"ngram_rows is {tables} and several processes train on CPUs, but DDP cannot exchange the sparse gradients "
            "of these tables: give --set ngram_rows=None, or train with one process"
        )


def train(
    recipe: Recipe,
    files: TokenFiles,
    tokenizer: "Tokenizer",
    run_dir: Path,
    *,
    time_limit_seconds: float | None = None,
    steps: int | None = None,
    whole_limit_seconds: float | None = None,
    spent: Callable[[], float] = lambda: 0.0,
    seconds_of_earlier_sessions: float = 0.0,
    device: str,
    loggers: "Sequence[Logger]",
) -> "tuple[SpeedrunLM, Summary]":
    """Train as `trainer.experiments.speedrun.train` does.

    The records name `whole_limit_seconds`, which includes the time for the entry and the end of the process, and may
    change. `spent` returns the seconds of the limit that this process has spent; earlier processes have spent
    `seconds_of_earlier_sessions`. Returns the trained model and the summary.

    Raises:
        ValueError: If the limit is too short, the directory holds another run, or several processes train tables of
            n-grams on CPUs.
        trainer.TrainingInterrupted: If a signal such as SIGINT or SIGTERM came; everything is saved.
    """
    check_beginning(recipe, run_dir, device)

    def sample(model: "SpeedrunLM", step: int) -> str:
        return write_text(model, tokenizer, SAMPLE_TOKENS, seed=recipe.seed)[0]

    return train_recipe(
        speedrun,
        recipe,
        files,
        tokenizer,
        run_dir,
        time_limit_seconds=time_limit_seconds,
        steps=steps,
        device=device,
        loggers=loggers,
        sample=sample,
        recorded={"time_limit_seconds": whole_limit_seconds},
        changeable=("time_limit_seconds", "recipe.compile"),
        spent=spent,
        seconds_of_earlier_sessions=seconds_of_earlier_sessions,
    )
