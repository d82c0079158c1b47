"""Numbers as people read them. Where something is unknown, the text says "-"."""

import math
from collections.abc import Sequence

from trainer.experiments.comparison import CONFIDENCE, Difference, Spread

DECIMALS = 4  # of losses and bits per byte
PERCENT = f"{CONFIDENCE:.0%}".replace("%", " %")
UNKNOWN = "-"


def mean_and_spread(spread: Spread | None, form: str = f".{DECIMALS}f") -> str:
    """A mean and its standard deviation: "1.0178 ± 0.0031"."""
    if spread is None:
        return UNKNOWN
    if spread.deviation is None:
        return format(spread.mean, form)
    return f"{spread.mean:{form}} ± {spread.deviation:{form}}"


def shown_interval(difference: Difference | None) -> tuple[float, float] | None:
    """The interval with as many decimals as are shown, rounded outwards: what excludes 0 on paper excludes it."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    scale = 10**DECIMALS
    # Adding zero turns -0.0 into 0.0.
    return math.floor(difference.low * scale) / scale + 0.0, math.ceil(difference.high * scale) / scale + 0.0


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
    """A time: "40.3 s", "5 min 12 s", "2 h 05 min"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def several(number: int, singular: str, plural: str | None = None) -> str:
    """A number and its noun: "1 run", "3 runs"."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
