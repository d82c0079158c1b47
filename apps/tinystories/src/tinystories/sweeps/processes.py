"""Several runs at the same time, each in its own process, so that a crash ends only that run."""

import os
import sys
from collections.abc import Callable, Sequence

from tinystories.results import FAILURE_FILE
from tinystories.sweeps.runs import Run, record_failure
from tinystories.sweeps.worker import write_task
from tinystories.training import Machine
from trainer.experiments.processes import RunProcess, core_share, run_side_by_side


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
    left = len(runs)

    def title(numbered: tuple[int, Run]) -> str:
        number, run = numbered
        return f"[{number}/{total}] {run.name}"

    def start(numbered: tuple[int, Run], slot: int) -> RunProcess:
        notify(title(numbered))
        _, run = numbered
        (run.directory / FAILURE_FILE).unlink(missing_ok=True)  # of an earlier attempt
        # The worker ignores the arguments; they appear in the records of its run.
        arguments = ["-m", "tinystories.sweeps.worker", *sys.argv[1:]]
        return RunProcess(run.name, arguments, environment_of(machine, slot, jobs), write_task(run, machine))

    def over(numbered: tuple[int, Run], process: RunProcess) -> None:
        nonlocal left
        left -= 1
        _, run = numbered
        error = process.failure()
        if error is not None:
            error = run.failure or record_failure(run, error)
        ended(title(numbered), run, process.seconds, left, error)

    run_side_by_side(runs, jobs, start, over)


def environment_of(machine: Machine, slot: int, jobs: int) -> dict[str, str]:
    """Environment of a worker: its share of the cores and, unless a CUDA device is named, the next device in turn.

    The worker sees only that device. The run therefore does not record which one it was, and can resume on any.
    """
    environment = {"OMP_NUM_THREADS": str(core_share(jobs))} | os.environ
    if machine.device in ("auto", "cuda"):
        import torch

        if count := torch.cuda.device_count():
            named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
            environment["CUDA_VISIBLE_DEVICES"] = (named or [str(number) for number in range(count)])[slot % count]
    return environment
