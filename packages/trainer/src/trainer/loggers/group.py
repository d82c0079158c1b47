"""Several loggers as one, none of which can stop a run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable

from trainer.loggers.protocol import Logger, Record, RunInfo, RunSummary


class LoggerGroup:
    """Passes everything on; a logger that raises is warned about once, closed, and left out from then on."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = list(loggers)

    def on_start(self, run: RunInfo) -> None:
        """Tell the loggers that want to know what run this is."""
        self._call("on_start", run)

    def log(self, record: Record) -> None:
        """Pass one record to every logger."""
        self._call("log", record)

    def on_samples(self, step: int, texts: list[str]) -> None:
        """Pass on what the model wrote."""
        self._call("on_samples", step, texts)

    def on_finish(self, summary: RunSummary) -> None:
        """Tell that the run is complete."""
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
