"""Train one run in this process: `python -m tinystories.sweeps.worker` reads the run from standard input."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tinystories.recipes import Recipe
from tinystories.sweeps.sweep import Run, train_recorded
from tinystories.training import Machine, TokenFiles

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def write_task(run: Run, machine: Machine) -> str:
    """What a worker is to do, as `read_task` takes it."""
    files = {name: str(path.resolve()) for name, path in asdict(run.files).items()}
    task = {"recipe": asdict(run.recipe), "directory": str(run.directory), "files": files, "machine": asdict(machine)}
    return json.dumps(task)


def read_task(text: str) -> tuple[Run, Machine]:
    """The run and the machine of a task."""
    task = json.loads(text)
    recipe = Recipe(**{**task["recipe"], "betas": tuple(task["recipe"]["betas"])})
    files = TokenFiles(**{name: Path(path) for name, path in task["files"].items()})
    return Run(recipe, Path(task["directory"]), files), Machine(**task["machine"])


def main() -> int:
    """Train the run; the exit code says how it ended, and standard error why."""
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
