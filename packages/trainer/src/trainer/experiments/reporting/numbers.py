"""Numbers formatted for people; an unknown value is "-"."""

import math
from collections.abc import Sequence

from trainer.experiments.comparison import CONFIDENCE, Difference, Spread
from trainer.experiments.results import DECIMALS, shown_interval

PERCENT = f"{CONFIDENCE:.0%}".replace("%", " %")
UNKNOWN = "-"


def mean_and_spread(spread: Spread | None, form: str = f".{DECIMALS}f") -> str:
    """A mean and its standard deviation: "1.0178 ± 0.0031"."""
    return UNKNOWN if spread is None else format(spread, form)


def signed(value: float) -> str:
    """A difference: "+0.0150"; never "-0.0000"."""
    return f"{round(value, DECIMALS) + 0.0:+.{DECIMALS}f}"


def difference_and_interval(difference: Difference | None) -> str:
    """A difference and its interval: "+0.0150 [-0.0020, +0.0320]"."""
    if difference is None:
        return UNKNOWN
    interval = shown_interval(difference)
    if interval is None:
        return signed(difference.value)
    return f"{signed(difference.value)} [{signed(interval[0])}, {signed(interval[1])}]"


def short_loss(value: float) -> str:
    """A loss in a few characters: "6.15", "4e+06"."""
    return f"{value:.2f}" if value < 1000 else f"{value:.0e}"


def count(value: float | None) -> str:
    """A count with separators: "1,315,968"."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """A large count in a few characters: "655 k", "40.96 M"."""
    if value is None:
        return UNKNOWN
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g}"


def memory(value: float | None) -> str:
    """Bytes: "512 MiB"."""
    if value is None:
        return UNKNOWN
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def duration(seconds: float | None) -> str:
    """A duration: "40.3 s", "5 min 12 s", "2 h 05 min", "11.6 days"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{seconds / 86_400:,.1f} days"
    return f"{hours} h {minutes:02d} min"


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def several(number: int, noun: str) -> str:
    """A number and its noun: "1 run", "3 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
