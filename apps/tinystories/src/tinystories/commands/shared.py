"""What the commands share that train several runs and report on them."""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tinystories.commands.report import report
from tinystories.results.records import EXPERIMENT_FILE, Failure, read_header

if TYPE_CHECKING:
    from tinystories.flags import DataFlags, MachineFlags
    from tinystories.recipes import Recipe
    from tinystories.sweeps.sweep import Run
    from tinystories.training import Machine, TokenFiles

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


class ExperimentFlags(Protocol):
    """What the commands that train several runs have in common."""

    @property
    def data(self) -> "DataFlags":
        """The text."""

    @property
    def machine(self) -> "MachineFlags":
        """The machine."""

    @property
    def sweep(self) -> SweepFlags:
        """How many runs at the same time."""


class Experiment:
    """Trains the runs of an experiment and keeps its report.

    Args:
        directory: where the runs are.
        kind: "ablations", "lr-sweep" or "batch-sweep".
        title: the report's title.
        flags: the text, the machine and how many runs there are at the same time.
        recipe: what the runs have in common, but for what the experiment changes.
        files: their texts, by size of the vocabulary.
        machine: where to train, if not on that of the flags.

    Raises:
        ValueError: the directory has another experiment, or the same of another recipe or text.
    """

    def __init__(
        self,
        directory: Path,
        kind: str,
        title: str,
        flags: ExperimentFlags,
        recipe: "Recipe",
        files: "dict[int, TokenFiles]",
        machine: "Machine | None" = None,
    ) -> None:
        from tinystories.sweeps.sweep import Sweep, describe_experiment

        self.directory = directory
        self.notes: list[str] = []
        self.failed: dict[str, str] = {}
        """The runs that failed, and why."""
        before = read_header(directory)
        shared = {"recipe": _shared(recipe), "texts": _texts_of(files[recipe.vocab_size])}
        _check_same(directory, before, {"kind": kind, "shared": shared})
        self._describe = partial(describe_experiment, directory, kind, title, flags.data.name, shared=shared)
        # What an earlier call has found stays until this one has found it again.
        self._describe(target_loss=before.get("target_loss"), notes=before.get("notes", ()))
        self._sweep = Sweep(machine or flags.machine.machine(), print, self._refresh, flags.sweep.jobs)
        self._refreshed = time.monotonic()

    def train(self, runs: "Sequence[Run]") -> "list[Run]":
        """Train what is not finished, and return what failed."""
        try:
            failed = self._sweep.run_all(runs)
        except (ValueError, OSError):
            self._remove_if_empty()
            raise
        for run in runs:
            self.failed.pop(run.name, None)
        self.add_failures((run.name, run.failure or "") for run in failed)
        return failed

    def add_failures(self, failed: Iterable[tuple[str, str]]) -> None:
        """Count other runs, and why they failed, as failures of the experiment."""
        self.failed |= dict(failed)

    def accept_lack_of_memory(self) -> bool:
        """Do not count runs that had no room as failures of the experiment, and tell whether there were any."""
        without_room = [name for name, error in self.failed.items() if Failure(name, error).out_of_memory]
        for name in without_room:
            del self.failed[name]
        return bool(without_room)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the report, and print it."""
        print(sentence)
        self.notes.append(sentence)

    def finish(self, target_loss: float | None = None) -> int:
        """Write the report, print its table, name the runs that failed, and return the exit code."""
        self._describe(target_loss=target_loss, notes=self.notes)
        report(self.directory)
        for name, error in self.failed.items():
            print(f"{name} failed: {error}; the same command tries it again", file=sys.stderr)
        return 1 if self.failed else 0

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


def _shared(recipe: "Recipe") -> dict[str, Any]:
    """The settings that all runs of an experiment have, or change from; seeds may be added, evaluations say nothing."""
    from dataclasses import asdict

    return {name: value for name, value in asdict(recipe).items() if name not in ("seed", "evaluations")}


def _texts_of(files: "TokenFiles") -> str:
    """The directory of the token files, which is named by their content and that of the tokenizer."""
    return files.train.parent.name


def _check_same(directory: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to mix experiments; what an earlier version did not write down is not compared."""
    import json

    now = json.loads(json.dumps(now))  # which makes lists of tuples
    differing = [name for name in now if name in before and before[name] != now[name]]
    if not differing or not any(directory.glob("*/config.json")):
        return
    pairs = [(name, before[name], now[name]) for name in differing]
    if differing == ["shared"]:
        known = {**before["shared"]["recipe"], "texts": before["shared"]["texts"]}
        asked = {**now["shared"]["recipe"], "texts": now["shared"]["texts"]}
        pairs = [(name, known.get(name), asked[name]) for name in asked if known.get(name) != asked[name]]
    shown = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in pairs[:3])
    raise ValueError(
        f"{directory} has runs of another experiment: {shown}. Repeat that command to go on with it, or choose another "
        "directory with --out"
    )


def seeded_name(name: str, number: int, seed: int) -> str:
    """The directory of a run: the first seed has the name alone."""
    return name if number == 0 else f"{name}-seed-{seed}"
