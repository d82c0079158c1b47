"""Progress reports on standard error, by tqdm."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

_TERMINAL_SECONDS, _LOG_SECONDS = 0.1, 10.0


class Progress:
    """Report of the completed share of some work; a context manager that ends the report.

    On a terminal the report is one line that is redrawn. Elsewhere it is a line every ten seconds and one at the end.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "B", *, enabled: bool) -> None:
        """Start a report.

        Args:
            label: The work, such as "counting".
            total: The amount of work in `unit`; None if it is unknown.
            unit: "B" for bytes, or the plural of another unit.
            enabled: Whether to report at all.
        """
        self._bar: tqdm[Any] | None = None
        if enabled and sys.stderr is not None:
            from tqdm import tqdm

            terminal = is_terminal(sys.stderr)
            self._bar = tqdm(
                total=total,
                desc=label,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=True,
                mininterval=_TERMINAL_SECONDS if terminal else _LOG_SECONDS,
                miniters=1,
                dynamic_ncols=terminal,
                file=_Tolerant(sys.stderr, terminal),
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int) -> None:
        """Report that `done` units of the work are complete."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def finish(self) -> None:
        """Report that the work is complete, even if there was less of it than `total`."""
        if self._bar is not None:
            self._bar.total = self._bar.n


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; not if it is closed, missing or only has `write`."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


class _Tolerant:
    """A stream that drops text it cannot write, so that a full or closed standard error does not stop the work."""

    def __init__(self, stream: TextIO, terminal: bool) -> None:
        self._stream = stream
        self._terminal = terminal

    def write(self, text: str) -> None:
        if not self._terminal:
            # A log gets complete lines, because there is no cursor to return to the start of one.
            text = f"{text.strip()}\n" if text.strip() else ""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
