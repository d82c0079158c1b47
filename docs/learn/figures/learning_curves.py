"""Write the data of the interactive learning curves: `python learning_curves.py RUNS`, with the runs of an ablation."""

import json
import sys
from pathlib import Path
from typing import Any

from tinystories.variants import WORDING
from trainer.experiments.results import Group, Result, read_experiment
from trainer.support.files import write_atomically

DATA = Path(__file__).with_name("learning-curves-data.js")


def curve(run: Result) -> dict[str, Any]:
    """Return the evaluations of one run; a loss that was not finite is None."""
    bits = [None if value is None else round(value, 4) for value in run.valid.bits]
    seconds = [round(value, 2) for value in run.valid.seconds]
    seed = run.recipe["seed"]
    return {"seed": seed, "diverged": run.diverged, "steps": run.valid.steps, "seconds": seconds, "bits": bits}


def curves(runs: Path) -> dict[str, Any]:
    """Return the curves of an ablation, with one sentence about their source.

    Raises:
        FileNotFoundError: `runs` holds no finished run.
        ValueError: A record is damaged.
    """
    experiment = read_experiment(runs, WORDING)

    def variant(group: Group) -> dict[str, Any]:
        described = experiment.wording.variants.get(group.name)
        what = described.change if described else ""
        return {"name": group.name, "what": what, "runs": [curve(run) for run in group.runs]}

    environment = experiment.runs[0].environment
    source = (
        f"{experiment.title}: {len(experiment.runs)} runs on {environment['device_name']}, "
        f"threads of each: {environment['threads']}, started {environment['started'][:10]}."
    )
    return {"source": source, "variants": [variant(group) for group in experiment.groups if group.runs]}


def main(arguments: list[str]) -> None:
    """Write the data of the runs in a directory beside this file.

    Pages that are opened from a disk may not read JSON, but may run scripts: the data is a script, too.
    """
    if len(arguments) != 1:
        sys.exit(f"expected one directory of runs, got {len(arguments)} arguments: python learning_curves.py RUNS")
    text = json.dumps(curves(Path(arguments[0])), allow_nan=False, separators=(",", ":"))
    lines = text.replace('{"name"', '\n{"name"')  # a line per variant
    write_atomically(DATA, f"figures.learningCurves = {lines};\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
