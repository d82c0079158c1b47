"""Runs in processes of their own, several at a time: what an exit code means, and an orderly end for all.

A process uses the exit codes of `trainer.support.command_line.run_command`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeVar

DONE, WRONG_INPUT, INTERRUPTED = 0, 2, 130
"""Exit codes; 130 is the code of a shell after Ctrl-C."""
KILLED_FOR_MEMORY = ", perhaps for lack of memory"
"""Part of the failure of a process that SIGKILL ended."""
_ENDED_BY_CTRL_C = 0xC000013A  # exit code on Windows, by Ctrl-Break as well

_IF_UNUSED = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")  # of which no system has all
_PARENT = "SCRATCHLM_PARENT_PROCESS"
_PARENT_POLL_SECONDS = 0.2


class StartedRun(Protocol):
    """A run in a process of its own, on this machine or on another one."""

    name: str

    @property
    def seconds(self) -> float:
        """Time that the run has taken."""

    @property
    def has_ended(self) -> bool:
        """True if the run's process has an exit code."""

    def interrupt(self) -> None:
        """Let the run save its progress and end."""

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""

    def failure(self) -> str | None:
        """Wait for the end; return how the run failed, or None.

        Raises:
            KeyboardInterrupt: If the run was interrupted.
            ValueError: If its input was wrong.
        """


ItemT = TypeVar("ItemT")
RunT = TypeVar("RunT", bound=StartedRun)


def core_share(jobs: int) -> int:
    """Return the number of threads for each of `jobs` processes that share the cores, at least 1."""
    return max(1, (os.cpu_count() or 1) // jobs)


def followed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that is to follow this one with `follow_parent`."""
    return {**environment, _PARENT: str(os.getpid())}


def follow_parent() -> None:
    """Let a process that was started with `followed` hear SIGINT, and end when its parent has ended.

    A killed parent cannot pass a signal on. Its run would train on, and keep the directory from the next attempt.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is None or os.name != "posix":
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray's processes block it, and children inherit that

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follow parent", daemon=True).start()


class RunProcess:
    """A Python process that makes one run; its standard output is dropped.

    Args:
        name: Name of the run, for messages.
        arguments: Arguments of the interpreter, such as `-m` and a module.
        environment: The environment variables.
        text: Standard input.
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], text: str = "") -> None:
        self.name = name
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=followed(environment),
            # Ctrl-C must reach only this process, which passes it on: a run exits immediately on its second signal.
            process_group=0 if os.name == "posix" else None,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self.stderr = ""
        self._communication = threading.Thread(target=self._communicate, args=(text,), daemon=True)
        self._communication.start()

    @property
    def seconds(self) -> float:
        """Time since the process was started."""
        return time.perf_counter() - self._began

    @property
    def has_ended(self) -> bool:
        """True if the process has an exit code."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Send SIGINT, on which a run saves its progress; on Windows Ctrl-Break, which alone reaches a group."""
        self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))

    def wait(self) -> int:
        """Wait until the process has ended and its output has been read; return its exit code."""
        self._communication.join()
        return self._process.wait()

    def failure(self) -> str | None:
        """Wait for the end; return how the process failed with the end of its standard error, or None.

        Raises:
            KeyboardInterrupt: If the process was interrupted.
            ValueError: If its input was wrong.
        """
        return failure_of(self.name, self.wait(), self.stderr)

    def _communicate(self, text: str) -> None:
        self.stderr = self._process.communicate(text)[1].strip()


def was_interrupted(code: int) -> bool:
    """Return whether this is the exit code of a process that a signal asked to end."""
    return code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM, _ENDED_BY_CTRL_C)


def failure_of(name: str, code: int, stderr: str) -> str | None:
    """Return how the process of a run failed, with the end of its standard error; None if it is done.

    Raises:
        KeyboardInterrupt: If the process was interrupted.
        ValueError: If its input was wrong.
    """
    if code == DONE:
        return None
    if code == WRONG_INPUT:
        raise ValueError(f"{name}: {stderr}")
    if was_interrupted(code):
        raise KeyboardInterrupt
    reason = f"exit code {code}"
    if code < 0:
        reason = f"ended by {signal.Signals(-code).name}"
    if code == -getattr(signal, "SIGKILL", 0):  # Linux kills the process that uses the most memory
        reason += KILLED_FOR_MEMORY
    return f"the process failed ({reason}): {stderr[-500:]}".rstrip(": ")


def run_side_by_side(
    items: Sequence[ItemT],
    jobs: int,
    start: Callable[[ItemT, int], RunT],
    ended: Callable[[ItemT, RunT], None],
) -> None:
    """Start a process for each item, `jobs` at a time. If anything is raised, interrupt all, and wait for their end.

    Args:
        items: What to start, in this order.
        jobs: Processes at the same time.
        start: Starts the process of an item in one of `jobs` slots, whose number it gets.
        ended: Called after each process.

    Raises:
        KeyboardInterrupt: If SIGINT or SIGTERM arrived, or SIGHUP, SIGUSR1, SIGUSR2 or SIGBREAK unless they are ignored
            or used.
    """
    waiting, slots = list(items), list(range(jobs))
    running: dict[int, tuple[ItemT, RunT]] = {}
    with _signals_as_keyboard_interrupt():
        try:
            while waiting or running:
                while waiting and slots:
                    item, slot = waiting.pop(0), slots.pop(0)
                    running[slot] = item, start(item, slot)
                time.sleep(0.05)
                for slot in [slot for slot, (_, process) in running.items() if process.has_ended]:
                    slots.append(slot)
                    ended(*running.pop(slot))
        finally:
            for _, process in running.values():
                process.interrupt()
            for _, process in running.values():
                process.wait()


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Let the signals that save a run end everything in order, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    others = [getattr(signal, name) for name in _IF_UNUSED if hasattr(signal, name)]
    unused = [number for number in others if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, *unused)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
