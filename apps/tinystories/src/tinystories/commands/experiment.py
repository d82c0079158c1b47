"""What the commands share that train several runs and report on them."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.commands.report import report
from tinystories.results import EXPERIMENT_FILE

if TYPE_CHECKING:
    from tinystories.sweeps import Run
    from tinystories.training import Machine

SECONDS_BETWEEN_TABLES = 60.0


@dataclass(frozen=True)
class SweepFlags:
    """How runs are trained."""

    jobs: int = 1
    """Runs at the same time, each in a process of its own: for several CUDA devices, which take turns."""
    seeds: int = 1
    """Runs of each, with the seeds --seed, --seed + 1, …: differences are only told from chance with several."""

    def check(self) -> None:
        """Refuse numbers below 1."""
        for name in ("jobs", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: expected at least 1")


class Experiment:
    """Trains the runs of an experiment and keeps its report."""

    def __init__(self, directory: Path, kind: str, title: str, dataset: str, machine: "Machine", jobs: int) -> None:
        from tinystories.sweeps import Sweep, describe_experiment

        self.directory, self.kind, self.title, self.dataset = directory, kind, title, dataset
        self.notes: list[str] = []
        self._describe = describe_experiment
        self._describe(directory, kind, title, dataset)
        self._sweep = Sweep(machine, print, self._refresh, jobs)
        self._refreshed = time.monotonic()
        self._failed: dict[str, str] = {}

    def train(self, runs: "Sequence[Run]") -> "list[Run]":
        """Train what is not finished, and return what failed."""
        try:
            failed = self._sweep.run_all(runs)
        except (ValueError, OSError):
            self._remove_if_empty()
            raise
        for run in runs:
            self._failed.pop(run.name, None)
        self._failed |= {run.name: run.failure or "" for run in failed}
        return failed

    @property
    def out_of_memory(self) -> bool:
        """Whether a run failed for lack of memory."""
        return any("memory" in error.lower() for error in self._failed.values())

    def accept_failures(self) -> None:
        """Do not count what has failed so far as failures of the experiment."""
        self._failed.clear()

    def note(self, sentence: str) -> None:
        """Keep a sentence for the report, and print it."""
        print(sentence)
        self.notes.append(sentence)

    def finish(self, target_loss: float | None = None) -> int:
        """Write the report, print its table, name the runs that failed, and return the exit code."""
        self._describe(self.directory, self.kind, self.title, self.dataset, target_loss=target_loss, notes=self.notes)
        report(self.directory)
        for name, error in self._failed.items():
            print(f"{name} failed: {error}; the same command tries it again", file=sys.stderr)
        return 1 if self._failed else 0

    def _remove_if_empty(self) -> None:
        """Leave nothing behind where wrong input let no run begin."""
        if [path.name for path in self.directory.iterdir()] == [EXPERIMENT_FILE]:
            (self.directory / EXPERIMENT_FILE).unlink()
            self.directory.rmdir()

    def _refresh(self) -> None:
        """Print the table on the way, but not after every short run."""
        if time.monotonic() - self._refreshed > SECONDS_BETWEEN_TABLES:
            report(self.directory, on_the_way=True)
            self._refreshed = time.monotonic()


def seeded_name(name: str, number: int, seed: int) -> str:
    """The directory of a run: the first seed has the name alone."""
    return name if number == 0 else f"{name}-seed-{seed}"
