"""Training a list of runs: finished ones are skipped, interrupted ones resumed, failures recorded."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tinystories.sweeps.runs import Run, outcome, train_recorded
from tinystories.training import Machine, train


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
    seconds: list[float] = field(default_factory=list)
    """Duration of each run trained here."""

    def run_all(self, runs: Sequence[Run]) -> list[Run]:
        """Train the runs that are not finished.

        An error inside a run (out of memory, a bug, a killed process) is written to its `failure.json`, and the sweep
        continues. Wrong input (ValueError, OSError) and interruptions end the sweep: the other runs would fail alike.

        Returns:
            The runs that failed.
        """
        open_runs = []
        for number, run in enumerate(runs, 1):
            if run.is_finished:
                self.notify(f"[{number}/{len(runs)}] {run.name}: already finished, skipped")
                train(run.recipe, run.files, run.directory, self.machine, quiet=True)  # refuses one of other settings
            else:
                open_runs.append((number, run))
        if self.jobs > 1 and len(open_runs) > 1:
            # Imported here: the worker process imports this package, and must not find its own module imported.
            from tinystories.sweeps.processes import train_side_by_side

            train_side_by_side(
                open_runs, len(runs), jobs=self.jobs, machine=self.machine, notify=self.notify, ended=self._ended
            )
        else:
            for position, (number, run) in enumerate(open_runs):
                title = f"[{number}/{len(runs)}] {run.name}"
                self.notify(title)
                began = time.perf_counter()
                error = train_recorded(run, self.machine)
                self._ended(title, run, time.perf_counter() - began, len(open_runs) - position - 1, error)
        return [run for run in runs if run.failure is not None]

    def _ended(self, title: str, run: Run, seconds: float, left: int, error: str | None) -> None:
        """Report how a run ended, and estimate how long the rest will take."""
        self.seconds.append(seconds)
        line = f"{title}: {f'failed: {error}' if error else outcome(run)}, {seconds:.0f} s"
        if not left:
            self.notify(line)
            return
        from trainer import format_duration

        estimate = left * sum(self.seconds) / len(self.seconds) / self.jobs
        self.notify(f"{line}; {left} to go, about {format_duration(estimate)}")
        self.on_finish()
