"""What was run, and on what: facts from the records of the runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinystories.reporting.numbers import listed, several
from tinystories.results.grouping import Kind
from tinystories.results.records import Experiment, Result

Facts = list[tuple[str, str]]
_SHOWN = 3  # values of a fact that differs between runs
_COMMIT_LETTERS = 12


def facts(experiment: Experiment) -> Facts:
    """Name and value of what defines the experiment; where runs differ, all values, a few spelt out."""
    runs = experiment.runs
    if not runs:
        return []
    first = runs[0] if experiment.baseline is None or not experiment.baseline.runs else experiment.baseline.runs[0]
    found = [
        ("data", experiment.dataset or "not recorded"),
        ("model", _model(first.recipe)),
        ("training", _training(experiment.kind, first.recipe)),
        ("seeds", _values(runs, lambda run: str(run.recipe.get("seed", "?")))),
        ("device", _values(runs, lambda run: f"{run.environment['device_name']} ({run.environment['device']})")),
        ("threads", _values(runs, lambda run: str(run.environment["threads"]))),
        ("data type", _values(runs, lambda run: run.environment["dtype"])),
        ("torch", _values(runs, lambda run: run.environment["torch"])),
        ("commit", _values(runs, _commit)),
        ("begun", _values(runs, lambda run: run.environment["started"][:10])),
        ("command", _values(runs, _command)),
    ]
    return [(name, value) for name, value in found if value]


def incompleteness(experiment: Experiment) -> list[str]:
    """Why this is not all of the experiment; empty if nothing is known to be missing."""
    sentences = []
    if experiment.unfinished:
        sentences.append(f"Not finished yet: {listed(list(experiment.unfinished))}.")
    # That a large batch does not fit is a result of a batch-sweep.
    is_result = experiment.kind == "batch-sweep"
    failed = [failure.name for failure in experiment.failures if not (is_result and failure.out_of_memory)]
    if failed:
        sentences.append(f"Failed: {listed(failed)}.")
    if experiment.kind == "ablations":
        if experiment.baseline is None or not experiment.baseline.runs:
            sentences.append("There is no finished run of the baseline, so that nothing can be compared with it.")
        sizes = {len(group.runs) + len(group.failures) for group in experiment.groups}
        if len(sizes) > 1:
            most = max(sizes)
            fewer = [group.name for group in experiment.groups if len(group.runs) + len(group.failures) < most]
            sentences.append(f"Fewer than {several(most, 'run')}: {listed(fewer)}.")
    return sentences


def _model(recipe: dict[str, Any]) -> str:
    return (
        f"{recipe['num_layers']} layers, width {recipe['d_model']}, {recipe['num_heads']} heads, context "
        f"{recipe['context_length']}, vocabulary {recipe['vocab_size']:,}"
    )


def _training(kind: Kind, recipe: dict[str, Any]) -> str:
    optimizer = {"adamw": "AdamW", "muon": "Muon and AdamW"}[recipe["optimizer"]]
    limit = recipe["time_limit_seconds"]
    if kind == "batch-sweep":
        length = f"{recipe['steps'] * recipe['batch_size'] * recipe['context_length']:,} tokens"
        return f"{length if limit is None else f'{limit:g} seconds'}, {optimizer}"
    length = f"{recipe['steps']:,} steps" if limit is None else f"{limit:g} seconds"
    length += f" of {recipe['batch_size']} windows, {optimizer}"
    return length if kind == "lr-sweep" else f"{length} at {recipe['learning_rate']:g}, where nothing else is said"


def _commit(run: Result) -> str:
    git = run.environment.get("git")
    if git is None:
        return "not in a git repository"
    return git["commit"][:_COMMIT_LETTERS] + (" with uncommitted changes" if git["dirty"] else "")


def _command(run: Result) -> str:
    program, *arguments = run.environment.get("command") or [""]
    if not program:
        return ""
    own = ("run", "tinystories", "__main__", "worker")
    name = "python -m tinystories.run" if Path(program).stem in own else Path(program).name
    return " ".join([name, *arguments])


def _values(runs: Sequence[Result], value: Callable[[Result], str]) -> str:
    different = list(dict.fromkeys(value(run) for run in runs))
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return "; ".join(different[:_SHOWN]) + more
