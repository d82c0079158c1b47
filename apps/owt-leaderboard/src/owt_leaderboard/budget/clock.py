"""Wall clock of a time limit: it starts with the process and continues across the processes of a resumed run."""

import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from trainer.support.files import make_directory

SESSIONS_FILE = "sessions.json"
EXIT_SECONDS = 3.0
"""Seconds of a limit that are reserved for the end of the process, after everything is written.

On two cores the exit takes about 0.4 s, and 1.3 to 1.9 s if torch's objects are collected. Busy cores need longer, and
a GPU has contexts and pinned memory to release.
"""
_BEAT_SECONDS = 0.5
_STAT = Path("/proc/self/stat")
_MAX_AGE_AT_IMPORT = 3600.0  # more is a container whose /proc and clock disagree, not a slow import


class _Start(NamedTuple):
    seconds: float
    """Start of the process on the trainer's clock, `time.perf_counter`."""
    doubt: str | None
    """Line about an age that was not believed."""


def process_age() -> float:
    """Return the seconds since this process was started, the start of the interpreter included.

    Without /proc, or with an absurd age in it, it counts from the import of this module. It advances with the trainer's
    clock, so both agree: on Linux it stands still while the machine is suspended.
    """
    return time.perf_counter() - _start().seconds


def doubted_age() -> str | None:
    """Return a line about the age that the system gave this process at import, if it was not believed."""
    return _start().doubt


def _start() -> _Start:
    process = os.getpid()
    if process not in _STARTS:  # a forked process inherits the module but has its own age
        _STARTS.clear()
        age, doubt = _age_by_the_system(), None
        if not 0 <= age <= _MAX_AGE_AT_IMPORT:
            doubt = (
                f"{_STAT} and the system's clock give this process an age of {age:,.0f} s at its start, expected 0 to "
                f"{_MAX_AGE_AT_IMPORT:,.0f}: its time is counted from the import of the app instead"
            )
            age = 0.0
        _STARTS[process] = _Start(time.perf_counter() - age, doubt)
    return _STARTS[process]


def _age_by_the_system() -> float:
    """Return the seconds since the start of this process; 0 if the system does not know."""
    try:
        # Field 22 counts from after the command, which is in parentheses and may contain anything (proc(5)).
        fields = _STAT.read_text("utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0


_STARTS: dict[int, _Start] = {}
_start()


class Sessions:
    """Time that the processes of a run have spent, including processes that were killed.

    Each process writes a note to `sessions.json` twice a second. Time between processes, when the run was down, is
    recorded too, but does not count.

    Args:
        run_dir: The run.
        age: Returns the seconds that this process has spent of the limit.
    """

    def __init__(self, run_dir: Path, age: Callable[[], float]) -> None:
        self._path = run_dir / SESSIONS_FILE
        self._age = age
        self._earlier: list[dict[str, Any]] = []
        self._began = ""
        self._down = 0.0
        self._noting = threading.Lock()
        self._lock = FileLock(run_dir / ".sessions.lock", timeout=0)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Create the directory and lock it against other processes until `end`.

        Raises:
            OSError: If another process uses the directory, or it cannot be written.
        """
        directory = self._path.parent
        make_directory(directory)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OSError(
                f"run directory {directory} is in use by another process: wait for it or choose another one with --out"
            ) from error

    def begin(self) -> None:
        """Read the notes of earlier sessions and start to write those of this one; call `acquire` first."""
        self._earlier = read_sessions(self._path.parent)
        now = datetime.now(UTC)
        self._began = now.isoformat(timespec="milliseconds")
        self._down = 0.0
        if self._earlier:
            last = datetime.fromisoformat(self._earlier[-1]["last_seen"])
            self._down = max(0.0, (now - last).total_seconds() - self._age())
        self.note()
        self._thread = threading.Thread(target=self._beat, name="sessions", daemon=True)
        self._thread.start()

    @property
    def seconds_of_earlier(self) -> float:
        """Seconds that earlier sessions spent."""
        return sum(float(session["seconds"]) for session in self._earlier)

    def end(self) -> None:
        """Note the end of this session; if that cannot be written, the last note counts."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            try:
                self.note()
            except OSError as error:
                warnings.warn(f"the end of the session is not noted: {error}", RuntimeWarning, stacklevel=2)
        self._lock.release()

    def forget(self) -> None:
        """End, and remove the notes, because the run produced nothing."""
        self.end()
        self._path.unlink(missing_ok=True)

    def note(self) -> None:
        """Write the time that this session has spent until now.

        Raises:
            OSError: If it cannot be written.
        """
        from trainer import write_atomically

        with self._noting:  # so that the later of two moments is written last
            session = {
                "began": self._began,
                "last_seen": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "seconds": round(self._age(), 3),
                "seconds_down_before": round(self._down, 3),
            }
            text = json.dumps({"sessions": [*self._earlier, session]}, indent=2)
            write_atomically(self._path, text.encode("utf-8") + b"\n")

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            with suppress(OSError):  # a full disk may have room at the next beat
                self.note()


def read_sessions(run_dir: Path) -> list[dict[str, Any]]:
    """Return the notes of a run's sessions in order; none if there are no notes, or with a warning if they are damaged.

    Without them, the time that earlier sessions spent after their last checkpoint does not count.
    """
    from trainer.records import read_object

    try:
        sessions = read_object(run_dir / SESSIONS_FILE)["sessions"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError) as error:
        warnings.warn(
            f"{error}; the time of earlier sessions is taken from the last checkpoint", RuntimeWarning, stacklevel=2
        )
        return []
    return list(sessions)
