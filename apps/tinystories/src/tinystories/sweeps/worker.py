"""Training of one run in its own process: `python -m tinystories.sweeps.worker` reads the run from standard input."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from tinystories.recipes import Recipe
from tinystories.sweeps.runs import Run, train_recorded
from tinystories.training import Machine, TokenFiles
from trainer.experiments.running.processes import DONE, INTERRUPTED, WRONG_INPUT, core_share, follow_parent

FAILED = 1
"""Exit code of a run whose failure is recorded."""


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


def write_task(run: Run, machine: Machine) -> str:
    """Serialise a run as JSON for a worker; the inverse of `read_task`."""
    files = {name: str(path.resolve()) for name, path in asdict(run.files).items()}
    task = {"recipe": asdict(run.recipe), "directory": str(run.directory), "files": files, "machine": asdict(machine)}
    return json.dumps(task)


def read_task(text: str) -> tuple[Run, Machine]:
    """Restore the run and the machine from the text of `write_task`."""
    task = json.loads(text)
    recipe = Recipe(**{**task["recipe"], "betas": tuple(task["recipe"]["betas"])})
    files = TokenFiles(**{name: Path(path) for name, path in task["files"].items()})
    return Run(recipe, Path(task["directory"]), files), Machine(**task["machine"])


def main() -> int:
    """Train the run; return an exit code, and explain a failure on standard error."""
    follow_parent()
    from trainer import TrainingInterrupted

    run, machine = read_task(sys.stdin.read())
    try:
        return FAILED if train_recorded(run, machine, quiet=True) else DONE
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return WRONG_INPUT
    except (TrainingInterrupted, KeyboardInterrupt) as error:
        print(error, file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
