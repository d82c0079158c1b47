"""`report`: what finished runs have shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tinystories.commands.hints import next_step


@dataclass(frozen=True)
class Report:
    """Write the report of finished runs again: report.md, report.html and the pictures."""

    directory: Annotated[Path, tyro.conf.Positional]
    """The directory of the runs: what ablations, lr-sweep or batch-sweep was given as --out."""

    def run(self) -> int:
        """Write the report, and print its table."""
        return report(self.directory)


def report(directory: Path, *, on_the_way: bool = False) -> int:
    """Print the table of the runs in a directory, write their report, and say what to do next.

    Args:
        directory: of an experiment.
        on_the_way: more runs are to come: only print the table.
    """
    from tinystories.reporting.write import aligned, summary_table, write_report
    from tinystories.results.records import read_experiment

    experiment = read_experiment(directory)
    print(f"\n{aligned(summary_table(experiment))}\n")
    if on_the_way:  # pictures take the seconds of a short run
        return 0
    paths = write_report(experiment, directory)
    print("Report: " + " ".join(str(path) for path in paths if path.name.startswith("report.")))
    if (best := experiment.best_run) is not None:
        print(next_step(best.directory))
    return 0
