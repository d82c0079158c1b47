"""Several loggers as one; none of them can stop a run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable

from trainer.loggers.protocol import Logger, Record, RunInfo, RunSummary


class LoggerGroup:
    """Passes everything on to each logger; one that raises causes one warning, is closed, and gets no more calls."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = list(loggers)

    def on_start(self, run: RunInfo) -> None:
        """Pass on the description of the run."""
        self._call("on_start", run)

    def log(self, record: Record) -> None:
        """Pass one record to every logger."""
        self._call("log", record)

    def on_samples(self, step: int, texts: list[str]) -> None:
        """Pass on samples of the model."""
        self._call("on_samples", step, texts)

    def on_finish(self, summary: RunSummary) -> None:
        """Pass on the summary of the complete run."""
        self._call("on_finish", summary)

    def close(self) -> None:
        """Close every logger."""
        self._call("close")
        self._loggers.clear()

    def _call(self, method: str, *arguments: object) -> None:
        for logger in list(self._loggers):
            function = getattr(logger, method, None)
            if function is None:
                continue
            try:
                function(*arguments)
            except Exception as error:
                self._loggers.remove(logger)
                if method != "close":
                    with contextlib.suppress(Exception):
                        logger.close()
                name = getattr(logger, "label", type(logger).__name__)
                warnings.warn(
                    f"{name} failed ({type(error).__name__}: {error}) and is not used any more; "
                    "training goes on and metrics.jsonl has every record",
                    RuntimeWarning,
                    stacklevel=3,
                )
