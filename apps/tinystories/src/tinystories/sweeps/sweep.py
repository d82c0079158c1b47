"""A table of named runs: finished ones are skipped, broken ones resumed, failures recorded, and the rest goes on."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinystories.recipes import Recipe
from tinystories.results.records import EXPERIMENT_FILE, FAILURE_FILE
from tinystories.training import Machine, TokenFiles, train


@dataclass(frozen=True)
class Run:
    """A recipe, its texts, and the directory that its records go to."""

    recipe: Recipe
    directory: Path
    files: TokenFiles

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.name

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete: `summary.json` is written last."""
        return (self.directory / "summary.json").exists()

    @property
    def failure(self) -> str | None:
        """Why it failed the last time, if it did and has not finished since."""
        path = self.directory / FAILURE_FILE
        if self.is_finished or not path.exists():
            return None
        return str(json.loads(path.read_text("utf-8"))["error"])

    @property
    def final_loss(self) -> float:
        """Validation loss at the end in nats per token; infinite if it diverged, failed or has not finished."""
        if not self.is_finished:
            return float("inf")
        summary = json.loads((self.directory / "summary.json").read_text("utf-8"))
        loss = summary["final_valid_loss"]
        return float("inf") if summary["diverged"] or loss is None else float(loss)


@dataclass
class Sweep:
    """Trains runs, one after the other or several at once, and tells how they came out."""

    machine: Machine
    notify: Callable[[str], None]
    """Gets a line for each run that begins or ends."""
    on_finish: Callable[[], None] = lambda: None
    """Called when a run has ended, for a summary on the way."""
    jobs: int = 1
    """Runs at the same time, each in a process of its own; on several CUDA devices they take turns."""
    seconds: list[float] = field(default_factory=list)
    """How long each run took that was trained here."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: expected at least 1")

    def run_all(self, runs: Sequence[Run]) -> list[Run]:
        """Train what is not finished yet.

        What goes wrong inside a run (no memory left, a bug, a killed process) is written to its `failure.json` and the
        rest goes on; wrong input (ValueError, OSError) and interruptions end the sweep, because the other runs would
        fail alike.

        Returns:
            The runs that failed.
        """
        open_runs = []
        for number, run in enumerate(runs, 1):
            if run.is_finished:
                self.notify(f"[{number}/{len(runs)}] {run.name}: finished before, skipped")
                train(run.recipe, run.files, run.directory, self.machine, quiet=True)  # refuses one of other settings
            else:
                open_runs.append((number, run))
        if self.jobs > 1 and len(open_runs) > 1:
            from tinystories.sweeps.processes import train_side_by_side

            train_side_by_side(open_runs, len(runs), self)
        else:
            for position, (number, run) in enumerate(open_runs):
                title = f"[{number}/{len(runs)}] {run.name}"
                self.notify(title)
                began = time.perf_counter()
                error = train_recorded(run, self.machine)
                self.ended(title, run, time.perf_counter() - began, len(open_runs) - position - 1, error)
        return [run for run in runs if run.failure is not None]

    def ended(self, title: str, run: Run, seconds: float, left: int, error: str | None) -> None:
        """Tell how a run came out, and about how long the rest will take."""
        self.seconds.append(seconds)
        rest = ""
        if left:
            from trainer import format_duration

            estimate = left * sum(self.seconds) / len(self.seconds) / self.jobs
            rest = f"; {left} to go, about {format_duration(estimate)}"
        self.notify(f"{title}: {f'failed: {error}' if error else outcome(run)}, {seconds:.0f} s{rest}")
        self.on_finish()


def outcome(run: Run) -> str:
    """How a finished run came out, in a few words."""
    summary: Mapping[str, Any] = json.loads((run.directory / "summary.json").read_text("utf-8"))
    if summary["diverged"]:
        return "diverged"
    return f"validation loss {summary['final_valid_loss']:.4f}"


def train_recorded(run: Run, machine: Machine, *, quiet: bool = False) -> str | None:
    """Train a run; what goes wrong inside of it is written to its `failure.json` and returned in words.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the directory holds a run of another recipe, or the data do not fit.
        trainer.TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
    """
    from trainer import TrainingInterrupted

    try:
        train(run.recipe, run.files, run.directory, machine, quiet=quiet)
    except (ValueError, OSError, ImportError, TrainingInterrupted):
        raise
    except Exception as error:
        return record_failure(run, f"{type(error).__name__}: {error}")
    (run.directory / FAILURE_FILE).unlink(missing_ok=True)
    return None


def record_failure(run: Run, error: str) -> str:
    """Write why a run failed into its directory, and return that."""
    from trainer import write_atomically

    run.directory.mkdir(parents=True, exist_ok=True)
    write_atomically(run.directory / FAILURE_FILE, json.dumps({"error": error}).encode("utf-8") + b"\n")
    return error


def describe_experiment(
    directory: Path,
    kind: str,
    title: str,
    dataset: str,
    *,
    shared: Mapping[str, Any] | None = None,
    target_loss: float | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write `experiment.json`, by which a report knows what the runs of a directory are for.

    Args:
        directory: where the runs are; made if need be.
        kind: "ablations", "lr-sweep" or "batch-sweep".
        title: the report's title.
        dataset: the name of the text.
        shared: what all runs have in common, so that no others are mixed in.
        target_loss: the loss that batch sizes are compared at, in nats per token.
        notes: sentences for the report.
    """
    from trainer import write_atomically

    directory.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "kind": kind,
        "title": title,
        "dataset": dataset,
        "target_loss": target_loss,
        "notes": list(notes),
    }
    if shared is not None:
        content["shared"] = dict(shared)
    write_atomically(directory / EXPERIMENT_FILE, json.dumps(content, indent=2).encode("utf-8") + b"\n")
