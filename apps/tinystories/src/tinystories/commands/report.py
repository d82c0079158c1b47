"""`report` and `compare`: tables, pictures and verdicts of finished runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tinystories.commands.shared import report


@dataclass(frozen=True)
class Report:
    """Write the report of finished runs again: report.md, report.html and the pictures."""

    directory: Annotated[Path, tyro.conf.Positional]
    """The directory of the runs: the --out of ablations, lr-sweep or batch-sweep."""

    def run(self) -> int:
        """Write the report, and print its table."""
        report(self.directory)
        return 0


@dataclass(frozen=True)
class Compare:
    """Write a report that compares finished runs with the first one; runs of owt_leaderboard will do, too.

    Runs that differ only in their seed are a group.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories, two or more."""
    out: Path = Path("runs", "comparison")
    """Directory of the report."""

    def run(self) -> int:
        """Write the report, and print its table."""
        from trainer.experiments import reporting
        from trainer.experiments.results import read_runs

        reporting.report(read_runs(self.runs), self.out)
        return 0
