"""Training a list of runs: finished ones are skipped, interrupted ones resumed, failures recorded."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinystories.sweeps.runs import Run, outcome, record_failure, train_recorded
from tinystories.training import Machine, train
from trainer.experiments.processes import RunProcess, StartedRun, run_side_by_side
from trainer.experiments.results import FAILURE_FILE

if TYPE_CHECKING:
    from trainer.experiments.ray_engine import RayEngine


@dataclass
class Sweep:
    """Trains runs, one after the other or several at once, and reports how each ended."""

    machine: Machine
    notify: Callable[[str], None]
    """Receives a line for each run that begins or ends."""
    on_finish: Callable[[], None] = lambda: None
    """Called after each run but the last, for an interim table."""
    jobs: int = 1
    """Runs at the same time, each in its own process; they take turns on the CUDA devices."""
    engine: "RayEngine | None" = None
    """The cluster to train on instead of this machine."""
    seconds: list[float] = field(default_factory=list)
    """Duration of each run trained here."""
    _left: int = field(default=0, init=False)

    def run_all(self, runs: Sequence[Run]) -> list[Run]:
        """Train the runs that are not finished.

        An error inside a run (out of memory, a bug, a killed process) is written to its `failure.json`, and the sweep
        continues. Wrong input (ValueError, OSError) and interruptions end the sweep: the other runs would fail alike.

        Returns:
            The runs that failed.
        """
        open_runs = []
        for number, run in enumerate(runs, 1):
            title = f"[{number}/{len(runs)}] {run.name}"
            if run.is_finished:
                self.notify(f"{title}: already finished, skipped")
                train(run.recipe, run.files, run.directory, self.machine, quiet=True)  # refuses one of other settings
            else:
                open_runs.append((title, run))
        self._left = len(open_runs)
        if self.engine is not None or (self.jobs > 1 and len(open_runs) > 1):
            run_side_by_side(open_runs, self._at_once, self._start, self._over)
        else:
            for title, run in open_runs:
                self.notify(title)
                began = time.perf_counter()
                self._ended(title, run, train_recorded(run, self.machine), time.perf_counter() - began)
        return [run for run in runs if run.failure is not None]

    @property
    def _at_once(self) -> int:
        return self.jobs if self.engine is None else self.engine.share.at_once

    def _start(self, titled: tuple[str, Run], slot: int) -> StartedRun:
        """Start a run in a process of its own, so that a crash ends only that run."""
        # Imported here: the worker process imports this package, and must not find its own module imported.
        from tinystories.sweeps.worker import environment_of, write_task

        title, run = titled
        self.notify(title)
        (run.directory / FAILURE_FILE).unlink(missing_ok=True)  # of an earlier attempt
        # The worker ignores the arguments; they appear in the records of its run.
        arguments = ["-m", "tinystories.sweeps.worker", *sys.argv[1:]]
        task = write_task(run, self.machine)
        if self.engine is not None:
            return self.engine.start(run.name, arguments, run.directory / "summary.json", task)
        return RunProcess(run.name, arguments, environment_of(self.machine, slot, self.jobs), task)

    def _over(self, titled: tuple[str, Run], process: StartedRun) -> None:
        title, run = titled
        error = process.failure()
        if error is not None:
            error = run.failure or record_failure(run, error)
        self._ended(title, run, error, process.seconds)

    def _ended(self, title: str, run: Run, error: str | None, seconds: float) -> None:
        """Report how a run ended, and estimate how long the rest will take."""
        self._left -= 1
        self.seconds.append(seconds)
        line = f"{title}: {f'failed: {error}' if error else outcome(run)}, {seconds:.0f} s"
        if not self._left:
            self.notify(line)
            return
        from trainer import format_duration

        estimate = self._left * sum(self.seconds) / len(self.seconds) / self._at_once
        self.notify(f"{line}; {self._left} to go, about {format_duration(estimate)}")
        self.on_finish()
