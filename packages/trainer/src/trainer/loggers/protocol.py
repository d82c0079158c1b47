"""What a logger is, and how several of them are kept from stopping a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

Record: TypeAlias = Mapping[str, Any]
"""One report: "event" is "train", "eval" or "notice"; a notice has a "message", the others are as in metrics.jsonl."""


@runtime_checkable
class Logger(Protocol):
    """Receives every record of a run."""

    def log(self, record: Record) -> None:
        """Take one record."""

    def close(self) -> None:
        """The run has ended; flush and let go."""


class LoggerGroup:
    """Several loggers as one; a logger that raises is warned about once, dropped, and never stops training."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = list(loggers)

    def log(self, record: Record) -> None:
        """Pass one record to every logger."""
        for logger in list(self._loggers):
            try:
                logger.log(record)
            except Exception as error:
                self._loggers.remove(logger)
                self._warn(logger, error)

    def close(self) -> None:
        """Close every logger."""
        for logger in self._loggers:
            try:
                logger.close()
            except Exception as error:
                self._warn(logger, error)

    @staticmethod
    def _warn(logger: Logger, error: Exception) -> None:
        warnings.warn(
            f"{type(logger).__name__} failed ({type(error).__name__}: {error}) and is not used any more; "
            "training goes on and metrics.jsonl has every record",
            RuntimeWarning,
            stacklevel=3,
        )
