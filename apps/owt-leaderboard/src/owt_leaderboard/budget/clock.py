"""The clock that a time limit is held against: it starts with the process, and goes on with the next one."""

import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

SESSIONS_FILE = "sessions.json"
_BEAT_SECONDS = 0.5


def process_age() -> float:
    """Seconds since this process was started, the interpreter's own start included.

    Where the system does not tell (it has no /proc), the seconds since this module was imported. After the first look
    it is the clock of the trainer, so that both agree: while a machine is suspended, it stands still on Linux.
    """
    process = os.getpid()
    if process not in _BEGAN:  # a forked process has the module, and another age
        _BEGAN.clear()
        _BEGAN[process] = time.perf_counter() - _age_by_the_system()
    return time.perf_counter() - _BEGAN[process]


def _age_by_the_system() -> float:
    """Seconds since the start of this process; 0 where the system does not tell."""
    try:
        # Field 22 counts from after the command, which stands in parentheses and may contain anything (proc(5)).
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError):
        return 0.0


_BEGAN: dict[int, float] = {}
process_age()


class Sessions:
    """What the processes of a run have spent, also those that were killed: each notes twice a second that it lives.

    The time between them, when the run was down, does not count and is recorded, too.

    Args:
        run_dir: the run; `sessions.json` is written there.
        age: tells what this process has spent of the limit.
    """

    def __init__(self, run_dir: Path, age: Callable[[], float]) -> None:
        self._path = run_dir / SESSIONS_FILE
        self._age = age
        self._earlier: list[dict[str, Any]] = []
        self._began = ""
        self._down = 0.0
        self._noting = threading.Lock()
        self._lock: IO[bytes] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Make the directory, and keep others from it until `end`.

        Raises:
            OSError: another process is at it, or the directory cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self._path.parent / ".sessions.lock")

    def begin(self) -> None:
        """Read what earlier sessions noted, and begin to note this one; `acquire` comes first."""
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
        """Note the last moment of this session; where that cannot be written, the beat before it counts."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            try:
                self.note()
            except OSError as error:
                warnings.warn(f"the end of the session is not noted: {error}", RuntimeWarning, stacklevel=2)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def forget(self) -> None:
        """End, and remove the notes: nothing has come of the run."""
        self.end()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            with suppress(OSError):  # a disk that is full now may have room at the next beat
                self.note()

    def note(self) -> None:
        """Write down what this session has spent until now.

        Raises:
            OSError: it cannot be written.
        """
        from trainer import write_atomically

        with self._noting:  # the later of two moments is written last
            session = {
                "began": self._began,
                "last_seen": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "seconds": round(self._age(), 3),
                "seconds_down_before": round(self._down, 3),
            }
            text = json.dumps({"sessions": [*self._earlier, session]}, indent=2)
            write_atomically(self._path, text.encode("utf-8") + b"\n")


def read_sessions(run_dir: Path) -> list[dict[str, Any]]:
    """The sessions of a run, in order; none if there are no notes of them."""
    path = run_dir / SESSIONS_FILE
    return list(json.loads(path.read_text("utf-8"))["sessions"]) if path.exists() else []


def _locked(path: Path) -> IO[bytes]:
    """Open a file that one process at a time can hold."""
    file = path.open("ab")
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OSError(
            f"run directory {path.parent} is in use by another process: wait for it or choose another one with --out"
        ) from error
    return file
