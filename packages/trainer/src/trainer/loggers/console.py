"""Records as aligned lines of text."""

from __future__ import annotations

import sys
from typing import TextIO

from trainer.loggers.protocol import Record
from trainer.support.durations import format_duration

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


class ConsoleLogger:
    """Prints every record as one plain line, which suits a terminal and a log file alike.

    Args:
        stream: The stream to print to; None is the standard output at the time of each record.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._origin: tuple[float, float] | None = None

    def log(self, record: Record) -> None:
        """Print one record."""
        line = str(record["message"]) if record["event"] == "notice" else self._line(record)
        print(line, file=self._stream or sys.stdout, flush=True)

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""

    def _line(self, record: Record) -> str:
        is_evaluation = record["event"] == "eval"
        parts = [
            f"step {record['step']:>9,}",
            f"{record['progress']:>4.0%}",
            f"{_short(record['tokens']):>6} tokens",
            f"{'valid' if is_evaluation else 'train'} loss {_number(record['loss'], '.4f'):>8}",
        ]
        if is_evaluation:
            parts.append(f"ppl {_number(record['perplexity'], '.2f'):>9}")
            parts.append(f"bpb {_number(record['bits_per_byte'], '.4f'):>7}")
            parts.append(" " * 15)
        else:
            parts.append(f"lr {_number(record['lr'], '.2e'):>8}")
            parts.append(f"norm {_number(record['grad_norm'], '.3f'):>8}")
            parts.append(f"{_number(record['tokens_per_second'], ',.0f'):>9} tok/s")
        parts.append(f"{format_duration(record['seconds_total']):>8}")
        parts.append(f"ETA {self._eta(record['progress'], record['seconds_total'])}")
        return "  ".join(parts)

    def _eta(self, progress: float, seconds: float) -> str:
        """Extrapolate the remaining time from the pace of this session."""
        if self._origin is None:
            self._origin = (progress, seconds)
        done, spent = progress - self._origin[0], seconds - self._origin[1]
        if done <= 0:
            return "-" if progress < 1 else "0:00"
        return format_duration(max(0.0, (1 - progress) * spent / done))


def _short(count: int) -> str:
    """Format a count with three digits, as in 12.3M."""
    size, unit = next(((size, unit) for size, unit in _UNITS if count >= 0.9995 * size), (1, ""))
    value = count / size
    return f"{value:.{0 if size == 1 or value >= 99.95 else 1 if value >= 9.995 else 2}f}{unit}"


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
