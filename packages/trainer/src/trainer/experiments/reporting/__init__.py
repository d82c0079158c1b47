"""Reports of experiments: tables, key figures and pictures, written as Markdown, HTML and CSV."""

from pathlib import Path

from trainer.experiments.reporting.numbers import duration as duration
from trainer.experiments.reporting.summary import headline as headline
from trainer.experiments.reporting.summary import key_figures as key_figures
from trainer.experiments.reporting.tables import Rows as Rows
from trainer.experiments.reporting.tables import aligned as aligned
from trainer.experiments.reporting.tables import brief_table as brief_table
from trainer.experiments.results import Experiment


def print_table(experiment: Experiment) -> None:
    """Print the losses and verdicts of an experiment."""
    print(f"\n{aligned(brief_table(experiment))}\n")


def report(experiment: Experiment, directory: Path) -> None:
    """Print the table, the result and the key figures of an experiment, and write its report into `directory`."""
    print_table(experiment)
    print(headline(experiment))
    for name, value in key_figures(experiment):
        print(f"{name}: {value}")
    paths = write_report(experiment, directory)
    print("Report: " + " ".join(str(path) for path in paths if path.name.startswith("report.")))


def write_report(experiment: Experiment, directory: Path) -> list[Path]:
    """Write `report.md`, `report.html`, `runs.csv` and the pictures into `directory`, each file atomically.

    Returns:
        Their paths, the two reports first.
    """
    from trainer.experiments.reporting.document import compose
    from trainer.experiments.reporting.html import html
    from trainer.experiments.reporting.markdown import markdown
    from trainer.experiments.reporting.pictures import LIGHT, rendered
    from trainer.experiments.reporting.tables import runs_csv
    from trainer.support.files import make_directory, write_atomically

    document = compose(experiment, directory)
    contents = {
        "report.md": markdown(document).encode("utf-8"),
        "report.html": html(document).encode("utf-8"),
        "runs.csv": runs_csv(experiment).encode("utf-8"),
        **{f"{picture.name}.png": rendered(picture.drawing, LIGHT, "png") for picture in document.pictures},
    }
    make_directory(directory)
    for name in reversed(contents):  # the reports last, when the files they show exist
        write_atomically(directory / name, contents[name])
    return [directory / name for name in contents]
