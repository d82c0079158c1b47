"""Signals: the first one requests an orderly end of training, the second ends the process immediately."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from trainer.distributed import Processes
from trainer.support.files import IS_WINDOWS

_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# A closed terminal, the warnings that Slurm sends before the end of a job (`--signal`), and Ctrl-Break, which is all of
# them that Windows has.
_NAMES = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
_IF_UNUSED = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_SAME_REQUEST_SECONDS = 1.0


class TrainingInterrupted(Exception):  # noqa: N818 - not an error, like KeyboardInterrupt
    """Training stopped because of a signal, after saving everything; the same call resumes the run."""

    def __init__(self, run_dir: Path, step: int, signal_name: str) -> None:
        super().__init__(
            f"interrupted by {signal_name}: saved at step {step:,} in {run_dir}; to resume: {resume_command()}"
        )
        self.run_dir = run_dir
        self.step = step


def resume_command() -> str:
    """Return the command line of this process as one would type it again, or a hint to repeat it."""
    if "TORCHELASTIC_RUN_ID" in os.environ or len(sys.orig_argv) < 2:
        return "run the same command again"
    return subprocess.list2cmdline(sys.orig_argv) if IS_WINDOWS else shlex.join(sys.orig_argv)


class SignalGuard:
    """Context manager that only records the first signal; a second one has its usual effect.

    The signals are SIGINT and SIGTERM, and those of SIGHUP, SIGUSR1, SIGUSR2 and SIGBREAK that the system has, unless
    they are ignored, as `nohup` has it, or the caller has a handler for them. A second signal of another kind
    within a second is the same request: some programs send SIGTERM right after passing on Ctrl-C.

    Python delivers signals only to the main thread; in other threads the guard does nothing.

    Args:
        processes: Processes of the run; a signal to one of them stops all at the same step. None for this one alone.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes or Processes()
        self._own_number = 0
        self._shared_number = 0
        self._came_at = 0.0
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            unused = (number for number in _IF_UNUSED if signal.getsignal(number) is signal.SIG_DFL)
            for number in (*_ALWAYS, *unused):
                self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def received(self) -> str | None:
        """Name of the received signal, or None.

        With several processes, the signal may have come to any of them; it appears here after the next `share`.
        """
        number = self._shared_number if self._processes.are_several else self._own_number
        return signal.Signals(number).name if number else None

    def share(self) -> None:
        """Tell all processes of a signal that one of them has received; all processes must call this together."""
        if self._processes.are_several and not self._shared_number:
            self._shared_number = int(self._processes.maximum(self._own_number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._own_number:
            if number != self._own_number and now - self._came_at < _SAME_REQUEST_SECONDS:
                return
            self._restore()
            signal.raise_signal(number)
            return
        self._own_number, self._came_at = number, now

    def _restore(self) -> None:
        while self._previous_handlers:
            number, handler = self._previous_handlers.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
