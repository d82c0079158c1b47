"""Training a list of runs: finished ones are skipped, interrupted ones resumed, failures recorded."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinystories.sweeps.runs import Run, outcome, record_failure, train_recorded
from tinystories.training import Machine, train
from trainer.experiments.results import FAILURE_FILE
from trainer.experiments.running.processes import RunProcess, StartedRun, run_side_by_side
from trainer.experiments.running.progress import ExperimentProgress

if TYPE_CHECKING:
    from trainer.experiments.running.ray_engine import RayEngine


@dataclass
class Sweep:
    """Trains runs, one after the other or several at once, and reports how each ended."""

    machine: Machine
    notify: Callable[[str], None]
    """Receives a line for each run that begins or ends, and lines about the progress of all."""
    on_finish: Callable[[], None] = lambda: None
    """Called after each run but the last, for an interim table."""
    jobs: int = 1
    """Runs at the same time, each in its own process; they take turns on the CUDA devices."""
    engine: "RayEngine | None" = None
    """The cluster to train on instead of this machine."""
    _progress: ExperimentProgress = field(init=False)

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
        with ExperimentProgress(len(open_runs), self.notify) as self._progress:
            if self.engine is not None or (self.jobs > 1 and len(open_runs) > 1):
                at_once = self.jobs if self.engine is None else self.engine.share.at_once
                run_side_by_side(open_runs, at_once, self._start, self._over)
            else:
                for title, run in open_runs:
                    self._begin(title, run)
                    began = time.perf_counter()
                    error = train_recorded(run, self.machine, quiet=True)
                    self._ended(title, run, error, time.perf_counter() - began)
        return [run for run in runs if run.failure is not None]

    def _begin(self, title: str, run: Run) -> None:
        self.notify(title)
        self._progress.begin(run.name, run.directory)

    def _start(self, titled: tuple[str, Run], slot: int) -> StartedRun:
        """Start a run in a process of its own, so that a crash ends only that run."""
        # Imported here: the worker process imports this package, and must not find its own module imported.
        from tinystories.sweeps.worker import environment_of, write_task

        title, run = titled
        self._begin(title, run)
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
        """Report how a run ended, and what remains."""
        self._progress.end(run.name)
        line = f"{title}: {f'failed: {error}' if error else outcome(run)}, {seconds:.0f} s"
        if not self._progress.runs_to_go:
            self.notify(line)
            return
        self.notify(f"{line}; {self._progress.remaining()}")
        self.on_finish()
