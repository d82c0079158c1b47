"""A progress report for long work: one line that is redrawn on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

_REDRAWN_EVERY = 0.1
_PRINTED_EVERY = 10.0
_BAR = 24


class Progress:
    """Reports how much of some work is done; a context manager, which ends the report."""

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "B",
        *,
        enabled: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        """Begin a report.

        Args:
            label: What is done, such as "counting".
            total: How much there is, in `unit`; None if that is not known.
            unit: "B" for bytes, or the plural of something.
            enabled: Whether to report at all.
            stream: Where to; standard error unless given.
        """
        self._label = label
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and self._stream is not None
        self._terminal = self._enabled and self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._done = 0
        self._drawn = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, done: int) -> None:
        """Report that `done` of the work is done, if the last report is long enough ago."""
        self._done = done
        now = time.monotonic()
        if self._enabled and now - self._last >= (_REDRAWN_EVERY if self._terminal else _PRINTED_EVERY):
            self._last = now
            self._report("\r" if self._terminal else "", "" if self._terminal else "\n")

    def close(self) -> None:
        """Report for the last time; calling it again does nothing."""
        if self._enabled:
            self._report("\r" if self._terminal else "", "\n")
            self._enabled = False

    def _report(self, start: str, end: str) -> None:
        """Write the line; a stream that is closed or broken ends the report, not the work."""
        line = self._line(time.monotonic() - self._start)
        if self._terminal:
            line = line[: max(shutil.get_terminal_size().columns - 1, 1)]
            self._drawn, line = len(line), line.ljust(self._drawn)
        try:
            self._stream.write(f"{start}{line}{end}")
            self._stream.flush()
        except (OSError, ValueError):
            self._enabled = False

    def _line(self, seconds: float) -> str:
        """Return what there is to say after so many seconds."""
        rate = self._done / seconds if seconds > 0 else 0.0
        parts = [f"{self._label}:"]
        if self._total:
            share = min(self._done / self._total, 1.0)
            if self._terminal:
                filled = round(share * _BAR)
                parts.append(f"[{'#' * filled}{'.' * (_BAR - filled)}]")
            parts.append(f"{share:4.0%}")
        parts.append(self._amount(self._done))
        parts.append(f"{self._amount(rate)}/s")
        if self._total and 0 < self._done < self._total and rate > 0:
            parts.append(f"{_duration((self._total - self._done) / rate)} left")
        else:
            parts.append(_duration(seconds))
        return "  ".join(parts)

    def _amount(self, number: float) -> str:
        """Return a number with its unit: bytes with a prefix, others with separators."""
        if self._unit != "B":
            return f"{number:,.0f} {self._unit}"
        for prefix in ("", "k", "M", "G"):
            if number < (1000 if prefix == "" else 999.95):
                return f"{number:.{0 if prefix == '' else 1}f} {prefix}B"
            number /= 1000
        return f"{number:.1f} TB"


def _duration(seconds: float) -> str:
    """Return seconds as 0.4 s, 12 s, 3:07 or 1:02:03."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
