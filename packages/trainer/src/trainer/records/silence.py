"""What keeps the processes of a run quiet that do not write: the first one does it for all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trainer.loggers import JsonlLogger
from trainer.loggers.protocol import Record
from trainer.records.run_directory import RunDirectory


class SilentRunDirectory(RunDirectory):
    """A run directory that another process writes."""

    is_silent = True

    def acquire(self) -> None:
        """The writer has the lock."""

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write nothing."""

    def write_environment(self, environment: Mapping[str, Any], resumed_at: int | None) -> str:
        """Write nothing, and name no run: there are no loggers here to tell it."""
        return ""

    def open_lines(self, name: str, last_step: int, last_line: int | None = None) -> JsonlLogger:
        """Return a logger that takes records and keeps none."""
        return _NoLines()

    def write_csv(self) -> None:
        """Write nothing."""


class _NoLines(JsonlLogger):
    def __init__(self) -> None:
        super().__init__(os.devnull)

    def log(self, record: Record) -> None:
        pass

    def sync(self) -> None:
        pass
