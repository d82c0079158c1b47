"""Several runs at the same time, each in its own process, so that a crash ends only that run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tinystories.results import FAILURE_FILE, KILLED_FOR_MEMORY
from tinystories.sweeps.runs import Run, record_failure
from tinystories.sweeps.worker import DONE, FAILED, INTERRUPTED, WRONG_INPUT, write_task
from tinystories.training import Machine


def train_side_by_side(
    runs: Sequence[tuple[int, Run]],
    total: int,
    *,
    jobs: int,
    machine: Machine,
    notify: Callable[[str], None],
    ended: Callable[[str, Run, float, int, str | None], None],
) -> None:
    """Train runs in several processes.

    Args:
        runs: The runs, each with its number in the whole sweep.
        total: Number of runs in the whole sweep.
        jobs: Processes at the same time.
        machine: Where and how to compute.
        notify: Receives a line for each run that begins.
        ended: Called after each run with its title, the run, its seconds, the number of runs left, and its error.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM arrived; every run has saved its progress.
        ValueError: A run was given wrong input; the others have saved their progress.
    """
    waiting, slots = list(runs), list(range(jobs))
    running: dict[int, _Worker] = {}
    left = len(waiting)
    with _signals_as_keyboard_interrupt():
        try:
            while waiting or running:
                while waiting and slots:
                    number, run = waiting.pop(0)
                    slot = slots.pop(0)
                    title = f"[{number}/{total}] {run.name}"
                    notify(title)
                    running[slot] = _Worker(title, run, machine, environment_of(machine, slot, jobs))
                time.sleep(0.05)
                for slot in [slot for slot, worker in running.items() if worker.process.poll() is not None]:
                    worker = running.pop(slot)
                    slots.append(slot)
                    left -= 1
                    ended(worker.title, worker.run, worker.seconds, left, worker.error())
        finally:
            for worker in running.values():
                worker.process.send_signal(signal.SIGINT)
            for worker in running.values():
                worker.wait()


def environment_of(machine: Machine, slot: int, jobs: int) -> dict[str, str]:
    """Environment of a worker: its share of the cores and, unless a CUDA device is named, the next device in turn.

    The worker sees only that device. The run therefore does not record which one it was, and can resume on any.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} | os.environ
    if machine.device in ("auto", "cuda"):
        import torch

        if count := torch.cuda.device_count():
            named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
            environment["CUDA_VISIBLE_DEVICES"] = (named or [str(number) for number in range(count)])[slot % count]
    return environment


class _Worker:
    """A process that trains one run."""

    def __init__(self, title: str, run: Run, machine: Machine, environment: dict[str, str]) -> None:
        self.title, self.run = title, run
        self._began = time.perf_counter()
        (run.directory / FAILURE_FILE).unlink(missing_ok=True)  # of an earlier attempt
        # The worker ignores the arguments; they appear in the records of its run.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinystories.sweeps.worker", *sys.argv[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            # Ctrl-C must reach only the sweep, which passes it on: a run exits immediately on its second signal.
            process_group=0 if os.name == "posix" else None,
        )
        self._task, self._stderr = write_task(run, machine), ""
        self._communication = threading.Thread(target=self._communicate, daemon=True)
        self._communication.start()

    @property
    def seconds(self) -> float:
        """Time since the process was started."""
        return time.perf_counter() - self._began

    def wait(self) -> int:
        """Wait until the process has ended and its output has been read; return its exit code."""
        self._communication.join()
        return self.process.wait()

    def error(self) -> str | None:
        """The error of a run whose process has ended; None if there was none.

        Raises:
            KeyboardInterrupt: The process was interrupted.
            ValueError: Its input was wrong.
        """
        code = self.wait()
        if code == DONE:
            return None
        if code == FAILED and self.run.failure is not None:
            return self.run.failure
        if code == WRONG_INPUT:
            raise ValueError(f"{self.run.name}: {self._stderr}")
        if code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
            raise KeyboardInterrupt
        reason = f"exit code {code}"
        if code < 0:
            reason = f"ended by {signal.Signals(-code).name}"
        if code == -getattr(signal, "SIGKILL", 0):  # Linux kills the process that uses the most memory
            reason += KILLED_FOR_MEMORY
        return record_failure(self.run, f"the process failed ({reason}): {self._stderr[-500:]}".rstrip(": "))

    def _communicate(self) -> None:
        self._stderr = self.process.communicate(self._task)[1].strip()


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP from a closed terminal, end the sweep in the same orderly way as SIGINT."""
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
