"""Progress of a whole experiment: the runs that are training, how many remain, and the time to the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from trainer.support.durations import format_duration

_SECONDS_BETWEEN_LINES = 10.0
_SHARE_BETWEEN_LINES = 0.01  # so that an experiment of days prints a hundred lines
_END_BYTES = 2**16  # of a file of records; the last whole record lies within them


class _State(NamedTuple):
    """Progress of a run, from 0 to 1, and its last loss."""

    progress: float = 0.0
    loss: float | None = None


class ExperimentProgress:
    """Prints a line about all runs of an experiment every ten seconds, if it has advanced by a hundredth.

    Progress and loss of a run are read from its records, wherever it trains. This is a context manager, in which a
    thread prints.

    Args:
        runs: Number of runs to train.
        notify: Receives each line.
    """

    def __init__(self, runs: int, notify: Callable[[str], None]) -> None:
        self._runs, self._notify = runs, notify
        self._current: dict[str, Path] = {}
        self._ended = 0
        self._made_before = 0.0  # by earlier attempts, in runs
        self._shown = 0.0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def __enter__(self) -> ExperimentProgress:
        threading.Thread(target=self._print, name="progress of the experiment", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()

    @property
    def runs_to_go(self) -> int:
        """Runs that have not ended, those in training included."""
        return self._runs - self._ended

    def begin(self, name: str, directory: Path) -> None:
        """Count a run as one in training; its directory may hold the records of an earlier attempt."""
        before = _state(directory).progress
        with self._lock:
            self._current[name] = directory
            self._made_before += before

    def end(self, name: str) -> None:
        """Count a run as ended, whether it has finished or failed."""
        with self._lock:
            del self._current[name]
            self._ended += 1

    def remaining(self) -> str:
        """Return how many runs have not ended, and the time that they take at the pace until now."""
        done, _ = self._read()
        made, spent = done - self._made_before, time.monotonic() - self._began
        line = f"{self.runs_to_go} to go"
        return f"{line}, about {format_duration((self._runs - done) * spent / made)}" if made > 0 else line

    def line(self) -> str:
        """Return how far the experiment is, what remains, and the progress and the loss of each run in training."""
        done, states = self._read()
        runs = [
            f"{name} {state.progress:.0%}" + ("" if state.loss is None else f" loss {state.loss:.4f}")
            for name, state in states.items()
        ]
        spent = format_duration(time.monotonic() - self._began)
        return f"{done / self._runs:>4.0%} after {spent}, {self.remaining()}; now {', '.join(runs)}"

    def _read(self) -> tuple[float, dict[str, _State]]:
        """Return how much is done, in runs, and the states of those in training."""
        with self._lock:
            states = {name: _state(directory) for name, directory in self._current.items()}
            return self._ended + sum(state.progress for state in states.values()), states

    def _print(self) -> None:
        while not self._is_over.wait(_SECONDS_BETWEEN_LINES):
            done, states = self._read()
            if states and done - self._shown >= _SHARE_BETWEEN_LINES * self._runs:
                self._shown = done
                try:
                    self._notify(self.line())
                except OSError:  # a closed pipe; the next line about a run raises it in the main thread
                    return


def _state(directory: Path) -> _State:
    """Read how far a run is from the end of its records; a run without records has not begun."""
    try:
        with (directory / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _END_BYTES))
            lines = file.read().split(b"\n")[:-1]  # what follows the last line break is not written to its end
    except OSError:
        return _State()
    for line in reversed(lines):
        try:
            record = json.loads(line)
            return _State(float(record["progress"]), record["loss"])
        except (ValueError, KeyError, TypeError):  # a note of somebody, or another event
            continue
    return _State()
