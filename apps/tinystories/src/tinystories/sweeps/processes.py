"""Several runs at the same time, each in a process of its own, so that none can take another down with it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from tinystories.results.records import FAILURE_FILE, KILLED_FOR_MEMORY
from tinystories.sweeps.worker import DONE, FAILED, INTERRUPTED, WRONG_INPUT, write_task
from tinystories.training import Machine

if TYPE_CHECKING:
    from tinystories.sweeps.sweep import Run, Sweep


def train_side_by_side(runs: "Sequence[tuple[int, Run]]", total: int, sweep: "Sweep") -> None:
    """Train runs in `sweep.jobs` processes.

    Args:
        runs: the runs and their numbers in the whole sweep.
        total: how many there are in the whole sweep.
        sweep: where and how, and who is told.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; every run has saved what it had.
        ValueError: a run was given wrong input; the others have saved what they had.
    """
    waiting, slots = list(runs), list(range(sweep.jobs))
    running: dict[int, _Worker] = {}
    left = len(waiting)
    with _signals_as_keyboard_interrupt():
        try:
            while waiting or running:
                while waiting and slots:
                    number, run = waiting.pop(0)
                    slot = slots.pop(0)
                    title = f"[{number}/{total}] {run.name}"
                    sweep.notify(title)
                    running[slot] = _Worker(title, run, sweep.machine, environment_of(sweep.machine, slot, sweep.jobs))
                time.sleep(0.05)
                for slot in [slot for slot, worker in running.items() if worker.process.poll() is not None]:
                    worker = running.pop(slot)
                    slots.append(slot)
                    left -= 1
                    sweep.ended(worker.title, worker.run, worker.seconds, left, worker.error())
        finally:
            for worker in running.values():
                worker.process.send_signal(signal.SIGINT)
            for worker in running.values():
                worker.wait()


def environment_of(machine: Machine, slot: int, jobs: int) -> dict[str, str]:
    """The environment of a worker: its share of the cores and, where no CUDA device is named, the next one in turn.

    The device is the only one that the worker sees, so that runs do not record which it was, and go on with any.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} | os.environ
    if machine.device in ("auto", "cuda"):
        import torch

        if count := torch.cuda.device_count():
            named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
            environment["CUDA_VISIBLE_DEVICES"] = (named or [str(number) for number in range(count)])[slot % count]
    return environment


class _Worker:
    """A process that trains a run."""

    def __init__(self, title: str, run: "Run", machine: Machine, environment: dict[str, str]) -> None:
        self.title, self.run = title, run
        self._began = time.perf_counter()
        (run.directory / FAILURE_FILE).unlink(missing_ok=True)  # of another try
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tinystories.sweeps.worker",
                *sys.argv[1:],
            ],  # for its records: it does not read them
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            # Ctrl-C comes to the sweep alone, which passes it on: the second signal to a run would end it at once.
            process_group=0 if os.name == "posix" else None,
        )
        self._task, self._said = write_task(run, machine), ""
        self._talk = threading.Thread(target=self._communicate, daemon=True)
        self._talk.start()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.perf_counter() - self._began

    def wait(self) -> int:
        """The exit code, when the process has ended and has been listened to."""
        self._talk.join()
        return self.process.wait()

    def error(self) -> str | None:
        """Why the run failed, of a process that has ended; None if it did not.

        Raises:
            KeyboardInterrupt: it was interrupted.
            ValueError: its input was wrong.
        """
        from tinystories.sweeps.sweep import record_failure

        code = self.wait()
        if code == DONE:
            return None
        if code == FAILED and self.run.failure is not None:
            return self.run.failure
        if code == WRONG_INPUT:
            raise ValueError(f"{self.run.name}: {self._said}")
        if code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
            raise KeyboardInterrupt
        reason = f"exit code {code}"
        if code < 0:
            reason = f"ended by {signal.Signals(-code).name}"
        if code == -getattr(signal, "SIGKILL", 0):  # so Linux ends the process that has the most memory
            reason += KILLED_FOR_MEMORY
        return record_failure(self.run, f"the process failed ({reason}): {self._said[-500:]}".rstrip(": "))

    def _communicate(self) -> None:
        self._said = self.process.communicate(self._task)[1].strip()


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, end the sweep in the same orderly way as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {
        number: signal.signal(number, interrupt)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN or number != getattr(signal, "SIGHUP", None)  # nohup
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
