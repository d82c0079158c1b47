"""A run of a sweep: its recipe, directory and outcome, and its training with failures on record."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.recipes import Recipe
from tinystories.training import Machine, TokenFiles, train
from trainer.experiments.results import FAILURE_FILE, read_failure, write_failure

if TYPE_CHECKING:
    from trainer import Summary


@dataclass(frozen=True)
class Run:
    """A recipe, its texts, and the directory for its records."""

    recipe: Recipe
    directory: Path
    files: TokenFiles

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.name

    @property
    def is_finished(self) -> bool:
        """True if the run is complete: `summary.json` is written last, and is not damaged."""
        return _summary(self) is not None

    @property
    def failure(self) -> str | None:
        """The error that ended the last attempt; None if there was none or the run has finished since."""
        return read_failure(self.directory)

    @property
    def final_loss(self) -> float:
        """Validation loss at the end in nats per token; infinite if the run diverged, failed or has not finished."""
        summary = _summary(self)
        if summary is None or summary.diverged or summary.final_valid_loss is None:
            return math.inf
        return summary.final_valid_loss


def outcome(run: Run) -> str:
    """The result of a finished run in a few words."""
    summary = _summary(run)
    if summary is None:
        return "not finished"
    return "diverged" if summary.diverged else f"validation loss {summary.final_valid_loss:.4f}"


def train_recorded(run: Run, machine: Machine, *, quiet: bool = False) -> str | None:
    """Train a run. An error inside the run is written to its `failure.json` and returned instead of raised.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The directory holds a run of another recipe, or the data do not fit.
        trainer.TrainingInterrupted: SIGINT or SIGTERM arrived; everything is saved.
    """
    from trainer import TrainingInterrupted

    try:
        train(run.recipe, run.files, run.directory, machine, quiet=quiet)
    except (ValueError, OSError, ImportError, TrainingInterrupted):
        raise
    except Exception as error:
        return record_failure(run, f"{type(error).__name__}: {error}")
    (run.directory / FAILURE_FILE).unlink(missing_ok=True)
    return None


def record_failure(run: Run, error: str) -> str:
    """Write the error that ended a run into its directory, and return it."""
    write_failure(run.directory, error)
    return error


def _summary(run: Run) -> "Summary | None":
    from trainer.records import RunDirectory

    return RunDirectory(run.directory).read_summary()
