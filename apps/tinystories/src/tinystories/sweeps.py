"""A table of named runs, one after the other: finished ones are skipped, broken ones resumed, failures recorded."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.recipes import Recipe

if TYPE_CHECKING:
    from trainer import Summary

FAILURE_FILE = "failure.json"


@dataclass(frozen=True)
class Run:
    """A recipe and the directory that its records go to."""

    name: str
    recipe: Recipe
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether the run is complete: `summary.json` is written last."""
        return (self.directory / "summary.json").exists()


def run_all(runs: Sequence[Run], train: Callable[[Run], "Summary"], notify: Callable[[str], None]) -> list[str]:
    """Train what is not finished yet.

    What goes wrong inside a run (no memory left, a bug) is written to its `failure.json` and the rest goes on;
    wrong input (ValueError, OSError) and interruptions end the sweep, because the other runs would fail alike.

    Returns:
        The names of the runs that failed.
    """
    from trainer import write_atomically

    failed = []
    for number, run in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}] {run.name}"
        notify(f"{title}: finished before, skipped" if run.finished else title)
        failure = run.directory / FAILURE_FILE
        try:
            train(run)
        except RuntimeError as error:
            failed.append(run.name)
            run.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(failure, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode("utf-8") + b"\n")
            notify(f"{title}: failed: {error}")
            continue
        failure.unlink(missing_ok=True)
    return failed
