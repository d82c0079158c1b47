"""The report of an experiment: `report.md`, `report.html` and the pictures. All from the records."""

from pathlib import Path

from tinystories.reporting.tables import aligned, brief_table
from tinystories.results.records import Experiment

__all__ = ["aligned", "summary_table", "write_report"]


def summary_table(experiment: Experiment) -> list[list[str]]:
    """What came out so far, as rows of text, the header first."""
    return brief_table(experiment)


def write_report(experiment: Experiment, directory: Path) -> list[Path]:
    """Write `report.md`, `report.html`, `runs.csv` and the pictures into `directory`, each as a whole.

    Returns:
        Their paths, the two reports first.
    """
    from tinystories.reporting.document import compose
    from tinystories.reporting.html import html
    from tinystories.reporting.markdown import markdown
    from tinystories.reporting.pictures.style import LIGHT, rendered
    from tinystories.reporting.runs import runs_csv
    from trainer import write_atomically

    document = compose(experiment)
    contents = {
        "report.md": markdown(document).encode("utf-8"),
        "report.html": html(document).encode("utf-8"),
        "runs.csv": runs_csv(experiment).encode("utf-8"),
        **{f"{picture.name}.png": rendered(picture.drawing, LIGHT, "png") for picture in document.pictures},
    }
    for name in reversed(contents):  # the reports last: what they show is there
        write_atomically(directory / name, contents[name])
    return [directory / name for name in contents]
