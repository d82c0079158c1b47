"""Loggers in a background thread, where a slow, hanging or failing one cannot disturb training."""

from __future__ import annotations

import contextlib
import queue
import threading
import warnings
from typing import Any

from trainer.loggers.protocol import Logger, Record, RunInfo, RunSummary


class BackgroundLogger:
    """Runs another logger in a background thread, so that training never waits for it.

    The next call raises an exception of the thread. When the logger is `queue_size` calls behind, records are dropped
    and counted in `dropped`, with one warning.

    Args:
        logger: The logger whose methods the thread calls one after the other. If it has a method `abandon()`, that is
            called when the logger has not closed in time; it returns a hint for the user, or None.
        queue_size: Records that may wait.
        close_seconds: How long `close` waits for the rest; then it warns and abandons the thread.

    Raises:
        ValueError: If a number is not above 0.
    """

    def __init__(self, logger: Logger, *, queue_size: int = 1000, close_seconds: float = 10.0) -> None:
        for name, value in (("queue_size", queue_size), ("close_seconds", close_seconds)):
            if not value > 0:
                raise ValueError(f"{name} is {value!r}: expected a number above 0")
        self.logger = logger
        self.queue_size = queue_size
        self.close_seconds = close_seconds
        self.dropped = 0
        """Records that were dropped because too many were waiting."""
        self._worker: _Worker | None = None

    @property
    def label(self) -> str:
        """Name of the logger in warnings."""
        return type(self.logger if type(self) is BackgroundLogger else self).__name__

    def on_start(self, run: RunInfo) -> None:
        """Pass on the description of the run."""
        self._call("on_start", run)

    def log(self, record: Record) -> None:
        """Pass on one record, or drop it."""
        self._call("log", dict(record), can_drop=True)

    def on_samples(self, step: int, texts: list[str]) -> None:
        """Pass on samples, or drop them."""
        self._call("on_samples", step, list(texts), can_drop=True)

    def on_finish(self, summary: RunSummary) -> None:
        """Pass on the summary of the complete run."""
        self._call("on_finish", summary)

    def close(self) -> None:
        """Wait for the remaining calls, at most `close_seconds`; afterwards the logger can be used again."""
        worker, self._worker = self._worker or _Worker(self.logger), None
        if worker.failure is not None and worker.failure_is_told:
            return
        worker.calls.put(("close", ()))
        worker.thread.join(self.close_seconds)
        if worker.thread.is_alive():
            message = f"{self.label} did not finish within {self.close_seconds:g} s"
            if (abandon := getattr(self.logger, "abandon", None)) is not None and (hint := abandon()):
                message = f"{message}; {hint}"
            self._warn(message)
        elif worker.failure is not None:
            raise worker.failure

    def _call(self, method: str, *arguments: Any, can_drop: bool = False) -> None:
        if self._worker is None:
            self._worker = _Worker(self.logger)
        worker = self._worker
        if worker.failure is not None:
            worker.failure_is_told = True
            raise worker.failure
        if can_drop and worker.calls.qsize() >= self.queue_size:
            if self.dropped == 0:
                self._warn(f"{self.label} is {self.queue_size:,} calls behind, so records are dropped")
            self.dropped += 1
            return
        worker.calls.put((method, arguments))

    def _warn(self, message: str) -> None:
        dropped = f"; {self.dropped:,} records were dropped" if self.dropped else ""
        text = f"{message}{dropped}; training does not wait for it, and metrics.jsonl has every record"
        warnings.warn(text, RuntimeWarning, stacklevel=4)


class _Worker:
    """The thread and its queue; it ends after `close` or the first failure."""

    def __init__(self, logger: Logger) -> None:
        self.calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self.failure: Exception | None = None
        self.failure_is_told = False
        self._logger = logger
        self.thread = threading.Thread(target=self._run, name=type(logger).__name__, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        method = ""
        while method != "close":
            method, arguments = self.calls.get()
            if (function := getattr(self._logger, method, None)) is None:
                continue
            try:
                function(*arguments)
            except Exception as error:
                self.failure = error
                if method != "close":
                    with contextlib.suppress(Exception):
                        self._logger.close()
                return
