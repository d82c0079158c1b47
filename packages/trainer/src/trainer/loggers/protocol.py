"""What a logger is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trainer.records.lines import Record


def numbers_of(record: Record) -> dict[str, float]:
    """Return what of a record can be drawn over its step; a list's numbers are called name/0, name/1 and so on."""
    numbers: dict[str, float] = {}
    for name, value in record.items():
        values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list | tuple) else {name: value}
        numbers |= {key: number for key, number in values.items() if isinstance(number, int | float)}
    numbers.pop("step", None)
    return numbers


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run is, before its first record."""

    run_dir: Path
    """Its directory, which exists."""
    run_id: str
    """Names the run for ever: `environment.json` keeps it, so a resumed run has the same."""
    step: int
    """The step that it goes on from; 0 at the start."""
    resumes: bool
    """Whether it goes on from a checkpoint; records after `step` may have been logged before."""
    config: Mapping[str, Any]
    """As in config.json."""
    environment: Mapping[str, Any]
    """As in environment.json, of this session."""


@runtime_checkable
class Logger(Protocol):
    """Receives every record of a run.

    A logger may have more methods, each of which is called if it is there:

    - `on_start(run: RunInfo)`: before the first record;
    - `on_samples(step: int, texts: list[str])`: what the model wrote;
    - `on_finish(summary: Summary)`: the run is complete, `summary.json` and `loss.png` are written; `close` follows.
      A run that is interrupted is only closed.
    """

    def log(self, record: Record) -> None:
        """Take one record."""

    def close(self) -> None:
        """The run has ended; flush and let go."""
