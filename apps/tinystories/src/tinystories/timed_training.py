"""Training for a time limit without a preset: nnscratch's speedrun, in sizes that suit the device."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nnscratch import speedrun
from nnscratch.speedrun import TRAINING_SHARE, Recipe, compiled_if_it_pays, from_record, to_record
from tinystories.recipes import is_sized
from tinystories.training import Machine, WandbMode, make_loggers
from tinystories.writing import SAMPLE_PROMPT, write_story
from trainer.experiments.long_limits import LONG_SECONDS, check_repetition
from trainer.experiments.runs import Sampling, recorded_of
from trainer.experiments.speed_trial import size_for_device
from trainer.experiments.speedrun import train as train_recipe
from trainer.experiments.texts import TokenFiles, has_begun

if TYPE_CHECKING:
    from nnscratch import SpeedrunLM
    from trainer import Summary

SAMPLE_TOKENS = 100
"""Limit on the story at each evaluation."""
_TIMEOUT = 600.0


def train_for(
    time_limit_seconds: float,
    recipe: Recipe,
    fixed: frozenset[str],
    files: TokenFiles,
    run_dir: Path,
    machine: Machine,
    *,
    spent: Callable[[], float],
    is_text_given: bool,
    wandb: WandbMode,
    notify: Callable[[str], None],
) -> "Summary":
    """Choose sizes and train, within a time limit; resume an interrupted run, and only read a finished one.

    A run keeps the sizes that it began with, also if it goes on with another limit.

    Args:
        time_limit_seconds: Time limit.
        recipe: The recipe before it is sized.
        fixed: Names of the sizes that the user gave, which stay.
        files: The texts.
        run_dir: The run.
        machine: The machine.
        spent: Returns the seconds of the limit that this process has spent.
        is_text_given: Whether the user named the training text.
        wandb: As for `tinystories.training.train`.
        notify: Receives each line to print.

    Raises:
        ModuleNotFoundError: wandb is requested and not installed.
        ValueError: The directory holds a run of another recipe or program, the limit is too short, or several processes
            train tables of n-grams on CPUs.
        trainer.TrainingInterrupted: A signal such as SIGINT or SIGTERM arrived; everything is saved.
    """
    from bpe import Tokenizer
    from trainer import TokenDataset
    from trainer.distributed import joined_processes, read_ranks, resolve_process_device

    check_processes(recipe, machine)
    known, ranks = _recipe_of(run_dir), read_ranks()
    device = resolve_process_device(machine.device, ranks)
    loggers, tokenizer = make_loggers(wandb), Tokenizer.from_pretrained(files.tokenizer)

    def size() -> Recipe:
        text_tokens = len(TokenDataset(files.train))
        choice = size_for_device(
            speedrun,
            compiled_if_it_pays(recipe, device.type, time_limit_seconds),
            tokenizer.vocab_size,
            device,
            seconds=TRAINING_SHARE * max(1.0, time_limit_seconds - spent()),
            train_tokens=text_tokens,
            processes=ranks.world_size,
            fixed=fixed,
            dtype=machine.dtype,
        )
        for reason in choice.reasons:
            notify(reason)
        if time_limit_seconds >= LONG_SECONDS:
            check_repetition(
                choice.tokens, text_tokens, is_text_given=is_text_given, device_type=device.type, notify=notify
            )
        return cast(Recipe, choice.recipe)

    def sample(model: "SpeedrunLM", step: int) -> list[str]:
        return [write_story(model, tokenizer, SAMPLE_PROMPT, Sampling(max_new_tokens=SAMPLE_TOKENS, seed=recipe.seed))]

    with joined_processes(ranks, device, _TIMEOUT) as processes:
        sized = processes.on_rank_0(size) if known is None else known
        _, summary = train_recipe(
            speedrun,
            compiled_if_it_pays(replace(sized, compile=recipe.compile), device.type, time_limit_seconds),
            files,
            tokenizer,
            run_dir,
            time_limit_seconds=time_limit_seconds,
            device=machine.device,
            dtype=machine.dtype,
            loggers=loggers,
            sample=sample,
            recorded={
                "app": "tinystories",
                "asked": _asked_of(recipe, fixed),
                "time_limit_seconds": time_limit_seconds,
            },
            changeable=("time_limit_seconds", "recipe.compile"),
            spent=spent,
        )
        processes.wait()  # as soon as one process ends, torchrun may end the others
    return summary


def check_processes(recipe: Recipe, machine: Machine) -> None:
    """Check that the processes of a run can train a recipe, for example before its text is prepared.

    Raises:
        ValueError: If several processes train tables of n-grams on CPUs.
    """
    from trainer.distributed import read_ranks, resolve_process_device

    ranks = read_ranks()
    device = resolve_process_device(machine.device, ranks)
    if ranks.world_size > 1 and recipe.model.ngram_rows is not None and device.type == "cpu":
        raise ValueError(
            f"{ranks.world_size} processes train on CPUs, but DDP cannot exchange the sparse gradients of the tables "
            "of n-grams in this recipe: train with one process, or give --preset cpu-quick"
        )


def is_recipe_of(run_dir: Path, recipe: Recipe, fixed: frozenset[str]) -> bool:
    """Return whether a run was started with this recipe, before it was sized, and these given sizes."""
    if not has_begun(run_dir):
        return False
    return recorded_of(run_dir, "tinystories").get("asked") == _asked_of(recipe, fixed)


def _asked_of(recipe: Recipe, fixed: frozenset[str]) -> dict[str, Any]:
    return {"recipe": to_record(replace(recipe, compile="auto")), "fixed": sorted(fixed)}


def _recipe_of(run_dir: Path) -> Recipe | None:
    """Return the recipe, in its sizes, of a run that has begun; None if there is none.

    Raises:
        ValueError: It is a run of a preset, or of another program or version.
    """
    if not has_begun(run_dir):
        return None
    record = recorded_of(run_dir, "tinystories")["recipe"]
    if not is_sized(record):
        raise ValueError(
            f"{run_dir} holds a run of a preset: give its --preset, such as cpu-quick, to resume it, or choose another "
            "directory with --out"
        )
    return from_record(record)
