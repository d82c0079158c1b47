"""`report`: tables, pictures and verdicts of finished runs."""

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
