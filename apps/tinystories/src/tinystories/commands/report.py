"""`report`: what finished runs have shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tinystories.commands.hints import next_step


@dataclass(frozen=True)
class Report:
    """Write the report of finished runs again."""

    directory: Annotated[Path, tyro.conf.Positional]
    """The directory given to ablations as --out."""

    def run(self) -> int:
        """Write the report, and print its table."""
        return report(self.directory, f"Runs in {self.directory.name}")


def report(directory: Path, title: str) -> int:
    """Write the report of the runs in a directory, and print its table and what to do next."""
    from tinystories.report import PICTURE, aligned, table, write_report
    from tinystories.results import finished_runs, read_result

    results = [read_result(path) for path in finished_runs(directory)]
    path = write_report(results, directory, title)
    print(f"\n{aligned(table(results))}\n")
    print(f"Report: {path}\nLearning curves: {directory / PICTURE}")
    print(next_step(results[0].directory))
    return 0
