"""What experiments left in their directories, read back for tables and pictures."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tinystories.results.grouping import Key, Kind, group_key
from tinystories.variants import VARIANTS

EXPERIMENT_FILE = "experiment.json"
FAILURE_FILE = "failure.json"
KILLED_FOR_MEMORY = ", perhaps for lack of memory"
BASELINE = "baseline"


@dataclass(frozen=True)
class Curve:
    """The evaluations of a run; the lists have equal length, and None marks what was not finite or is not known."""

    steps: list[int]
    tokens: list[int]
    """Training tokens seen."""
    seconds: list[float]
    """Of training; evaluations and the start are not counted."""
    losses: list[float | None]
    """Nats per token."""
    bits: list[float | None]
    """The same in bits per byte."""


@dataclass(frozen=True)
class Result:
    """One finished run."""

    name: str
    directory: Path
    recipe: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    valid: Curve
    sample: str | None
    """The last text that the model wrote in training."""

    @property
    def diverged(self) -> bool:
        """Whether the run came to nothing: its loss says nothing that could be averaged."""
        return bool(self.summary["diverged"]) or not _finite(self.summary["final_valid_loss"])

    @property
    def divergence(self) -> str:
        """When and how the run diverged, or "no"."""
        if not self.diverged:
            return "no"
        step = self.summary["diverged_at_step"]
        if step is not None:
            return f"not finite at step {step:,}"
        return "ends above its start" if _finite(self.summary["final_valid_loss"]) else "loss not finite"


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error."""

    name: str
    error: str

    @property
    def out_of_memory(self) -> bool:
        """Whether memory was what it lacked."""
        words = (
            "out of memory",
            "outofmemory",
            "memoryerror",
            "can't allocate memory",
            "alloc_failed",
            KILLED_FOR_MEMORY,
        )
        return any(word in self.error.lower() for word in words)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only."""

    name: str
    """The variant, or what the sweep set: "0.012", "16 at 0.012"."""
    rate: float | None
    """The learning rate that a sweep set; None in ablations."""
    batch_size: int | None
    """The batch size that a sweep set; None in the others."""
    runs: tuple[Result, ...]
    """Finished, ordered by seed."""
    failures: tuple[Failure, ...]

    @property
    def stable(self) -> tuple[Result, ...]:
        """The runs that did not diverge."""
        return tuple(run for run in self.runs if not run.diverged)

    @property
    def diverged(self) -> tuple[Result, ...]:
        """The runs that did."""
        return tuple(run for run in self.runs if run.diverged)

    @property
    def is_stable(self) -> bool:
        """Whether there are runs and none diverged."""
        return bool(self.runs) and not self.diverged

    def values(self, name: str) -> list[float]:
        """What the summaries of the stable runs say; runs that do not know it are left out."""
        found = (run.summary.get(name) for run in self.stable)
        return [float(value) for value in found if value is not None and _finite(value)]


@dataclass(frozen=True)
class Experiment:
    """A directory of runs."""

    directory: Path
    kind: Kind
    title: str
    dataset: str | None
    target_loss: float | None
    """The validation loss whose price in tokens and seconds a batch-sweep compares."""
    notes: tuple[str, ...]
    groups: tuple[Group, ...]
    """Variants in the order of the table of ablations, then others by name; sweeps by batch size and rate."""
    unfinished: tuple[str, ...]
    """Runs that were begun and neither finished nor failed."""

    @property
    def runs(self) -> list[Result]:
        """All finished runs."""
        return [run for group in self.groups for run in group.runs]

    @property
    def failures(self) -> list[Failure]:
        """All runs that failed."""
        return [failure for group in self.groups for failure in group.failures]

    @property
    def best_run(self) -> Result | None:
        """The run with the fewest bits per byte (nats per token where bytes are not known); None if all diverged."""
        stable = [run for run in self.runs if not run.diverged]
        names = ("bits_per_byte", "final_valid_loss")
        name = names[any(run.summary[names[0]] is None for run in stable)]
        return min(stable, key=lambda run: float(run.summary[name]), default=None)

    @property
    def baseline(self) -> Group | None:
        """What the other variants are compared with."""
        return next((group for group in self.groups if group.name == BASELINE), None)


def read_experiment(directory: Path) -> Experiment:
    """Read an experiment, finished or not.

    Raises:
        FileNotFoundError: no run in it has finished or failed.
        ValueError: `experiment.json` is not what it should be.
    """
    header = read_header(directory)
    kind: Kind = header.get("kind", "ablations")
    finished = sorted(path.parent for path in directory.glob("*/summary.json"))
    failed = sorted(path.parent for path in directory.glob(f"*/{FAILURE_FILE}") if path.parent not in finished)
    if not finished and not failed:
        raise FileNotFoundError(f"{directory} holds no finished run; python -m tinystories.run ablations makes some")
    begun = sorted(path.parent for path in directory.glob("*/config.json"))
    return Experiment(
        directory=directory,
        kind=kind,
        title=header.get("title") or f"Runs in {directory.resolve().name}",
        dataset=header.get("dataset"),
        target_loss=header.get("target_loss"),
        notes=tuple(header.get("notes", ())),
        groups=_grouped(kind, [read_result(path) for path in finished], [_read_failure(path) for path in failed]),
        unfinished=tuple(path.name for path in begun if path not in finished and path not in failed),
    )


def read_header(directory: Path) -> dict[str, Any]:
    """Read what `experiment.json` says of a directory of runs; empty if there is none.

    Raises:
        ValueError: it is not what it should be.
    """
    path = directory / EXPERIMENT_FILE
    if not path.exists():
        return {}
    try:
        header = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the same command writes it again") from error
    kinds = get_args(Kind)
    if not isinstance(header, dict) or header.get("kind", "ablations") not in kinds:
        raise ValueError(f"{path} holds {header!r}: expected an object whose kind is one of {', '.join(kinds)}")
    return header


def read_result(directory: Path) -> Result:
    """Read one run.

    Raises:
        FileNotFoundError: the run is not finished (it has no `summary.json`).
        ValueError: it is no run of this app.
    """
    from tinystories.writing import recorded_of
    from trainer import read_metrics

    path = directory / "summary.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} is not a finished run: it has no summary.json; run the same command again"
        )
    evaluations = [record for record in read_metrics(directory) if record["event"] == "eval"]
    samples = directory / "samples.jsonl"
    # Not splitlines, which also divides at characters that JSON leaves as they are, such as U+2028.
    texts = samples.read_text("utf-8").rstrip("\n").split("\n") if samples.exists() else []
    return Result(
        name=directory.name,
        directory=directory,
        recipe=recorded_of(directory)["recipe"],
        environment=json.loads((directory / "environment.json").read_text("utf-8")),
        summary=json.loads(path.read_text("utf-8")),
        valid=Curve(
            [record["step"] for record in evaluations],
            [record["tokens"] for record in evaluations],
            [record["seconds_training"] for record in evaluations],
            [record["loss"] for record in evaluations],
            [record.get("bits_per_byte") for record in evaluations],
        ),
        sample=json.loads(texts[-1])["text"] if texts and texts[-1] else None,
    )


def _read_failure(directory: Path) -> Failure:
    return Failure(directory.name, json.loads((directory / FAILURE_FILE).read_text("utf-8"))["error"])


def _grouped(kind: Kind, results: list[Result], failures: list[Failure]) -> tuple[Group, ...]:
    keys = {result.name: group_key(kind, result.name, result.recipe) for result in results}
    keys |= {failure.name: group_key(kind, failure.name, {}) for failure in failures}
    order = list(VARIANTS)

    def position(key: Key) -> tuple[float, float, int, str]:
        name, rate, batch_size = key
        return batch_size or 0, rate or 0.0, order.index(name) if name in order else len(order), name

    return tuple(
        Group(
            *key,
            runs=tuple(
                sorted(
                    (result for result in results if keys[result.name] == key),
                    key=lambda result: (result.recipe.get("seed", 0), result.name),
                )
            ),
            failures=tuple(failure for failure in failures if keys[failure.name] == key),
        )
        for key in sorted(set(keys.values()), key=position)
    )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
