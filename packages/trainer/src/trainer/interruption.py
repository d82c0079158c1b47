"""Signals: the first SIGINT or SIGTERM asks for an orderly end, the second ends at once; SIGCONT tells of a stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from trainer.distributed.processes import Processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CONTINUED = getattr(signal, "SIGCONT", None)  # not on Windows


class TrainingInterrupted(Exception):  # noqa: N818 - like KeyboardInterrupt, it is no error
    """Training stopped on a signal and everything is saved; the same call goes on from there."""

    def __init__(self, run_dir: Path, step: int, signal_name: str) -> None:
        super().__init__(
            f"interrupted by {signal_name}: saved at step {step:,} in {run_dir}; to resume: {resume_command()}"
        )
        self.run_dir = run_dir
        self.step = step


def resume_command() -> str:
    """Return the command line of this process, as one would type it again, or how to find it."""
    if "TORCHELASTIC_RUN_ID" in os.environ or len(sys.orig_argv) < 2:
        return "run the same command again"
    return shlex.join(sys.orig_argv)


class Continuations:
    """While entered, counts how often the process has gone on after a stop: what took time meanwhile tells no speed.

    Python delivers signals to the main thread alone, so elsewhere nothing is counted, nor where there is no SIGCONT.
    """

    def __init__(self) -> None:
        self.count = 0
        self._previous: list[Any] = []

    def __enter__(self) -> Continuations:
        if _CONTINUED is not None and threading.current_thread() is threading.main_thread():
            self._previous.append(signal.signal(_CONTINUED, self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._previous and _CONTINUED is not None:
            handler = self._previous.pop()
            signal.signal(_CONTINUED, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class SignalGuard:
    """While entered, the first SIGINT or SIGTERM is only remembered; a second one has its usual effect.

    Python delivers signals to the main thread alone, so elsewhere this does nothing.

    Args:
        processes: those of the run, which a signal to any of them shall stop at the same step; None is this one.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes or Processes()
        self._number = 0
        self._shared = 0
        self._previous: dict[int, Any] = {}
        self._continuations = Continuations()

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        self._continuations.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._continuations.__exit__(kind, error, traceback)
        self._restore()

    @property
    def continued(self) -> int:
        """How often the process has gone on after it was stopped."""
        return self._continuations.count

    @property
    def received(self) -> str | None:
        """The name of the signal that came; with several processes, before the last `share`, to any of them."""
        number = self._shared if self._processes.are_several else self._number
        return signal.Signals(number).name if number else None

    def share(self) -> None:
        """Let all processes know of a signal to one of them; to be called by all."""
        if self._processes.are_several and not self._shared:
            self._shared = int(self._processes.maximum(self._number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number:
            self._restore()
            signal.raise_signal(number)
            return
        self._number = number

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
