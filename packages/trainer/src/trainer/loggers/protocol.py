"""Protocol of loggers, and the description of a run that loggers receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

Record: TypeAlias = Mapping[str, Any]
"""One report to loggers. Its "event" is "train", "eval" or "notice". A notice has a "message"; the other two have the
fields of their line in metrics.jsonl."""


def numbers_of(record: Record) -> dict[str, float]:
    """Return the numbers of a record without its step; the numbers of a list are named name/0, name/1 and so on."""
    numbers: dict[str, float] = {}
    for name, value in record.items():
        values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list | tuple) else {name: value}
        numbers |= {key: number for key, number in values.items() if isinstance(number, int | float)}
    numbers.pop("step", None)
    return numbers


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Description of a run, which loggers receive before the first record."""

    run_dir: Path
    """The run directory, which exists."""
    run_id: str
    """Permanent name of the run, stored in `environment.json`; resuming does not change it."""
    step: int
    """The step that the run resumes from; 0 at the start."""
    resumes: bool
    """True if the run resumes from a checkpoint; records after `step` may have been logged before."""
    config: Mapping[str, Any]
    """The contents of config.json."""
    environment: Mapping[str, Any]
    """Environment of this session, which environment.json records."""
    best_checkpoint: Callable[[], Path | None] = lambda: None
    """Returns the directory of the best checkpoint so far, or None. In `on_finish`, the whole run counts."""


class RunSummary(Protocol):
    """The part of `trainer.Summary` that loggers use."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps`."""


@runtime_checkable
class Logger(Protocol):
    """Receives every record of a run.

    A logger may have three more methods, which the trainer calls if they exist:

    - `on_start(run: RunInfo)`: before the first record;
    - `on_samples(step: int, texts: list[str])`: after the model wrote samples;
    - `on_finish(summary: Summary)`: when the run is complete, and `summary.json` and `loss.png` are written; `close`
      follows. In an interrupted run, only `close` is called.
    """

    def log(self, record: Record) -> None:
        """Receive one record."""

    def close(self) -> None:
        """Flush and release all resources at the end of the session."""
