"""Spread of a few measurements, and the difference of two means with its confidence interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A sample in five numbers."""

    n: int
    mean: float
    deviation: float | None
    """Sample standard deviation (n - 1); None for a single value."""
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """Mean and deviation, each in the given format: "1.0178 ± 0.0031"; a single value has no deviation."""
        deviation = "" if self.deviation is None else f" ± {self.deviation:{form}}"
        return f"{self.mean:{form}}{deviation}"


@dataclass(frozen=True)
class Difference:
    """A difference of two means, and the interval that holds the true one with probability `CONFIDENCE`."""

    value: float
    low: float | None
    """None if the spread is unknown: one value on a side, or no spread at all."""
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Describe a sample of at least one value."""
    n = len(values)
    if min(values) == max(values):  # exactly, whatever rounding makes of their mean
        return Spread(n, values[0], 0.0 if n > 1 else None, values[0], values[0])
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Spread(n, mean, deviation, min(values), max(values))


def difference(sample: Spread, reference: Spread) -> Difference:
    """Subtract the mean of `reference` from that of `sample`, with Welch's interval for unequal variances."""
    value = sample.mean - reference.mean
    if sample.deviation is None or reference.deviation is None:
        return Difference(value, None, None)
    parts = [one.deviation**2 / one.n for one in (sample, reference) if one.deviation is not None]
    if sum(parts) == 0:
        return Difference(value, None, None)
    # Degrees of freedom by Welch and Satterthwaite, in shares of the sum: squares of small variances underflow.
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(share**2 / (one.n - 1) for share, one in zip(shares, (sample, reference), strict=True))
    half = student_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(sum(parts))
    return Difference(value, value - half, value + half)


def paired_difference(changes: Sequence[float]) -> Difference:
    """Return the mean of the differences of two or more pairs, with Student's interval.

    What both members of a pair share, such as their data, is no part of the spread.
    """
    sample = spread(changes)
    if not sample.deviation:
        return Difference(sample.mean, None, None)
    half = student_quantile((1 + CONFIDENCE) / 2, sample.n - 1) * sample.deviation / math.sqrt(sample.n)
    return Difference(sample.mean, sample.mean - half, sample.mean + half)


def student_quantile(probability: float, freedom: float) -> float:
    """Return the value that Student's t with `freedom` degrees of freedom stays below with this probability."""
    from scipy.special import stdtrit  # scipy.stats.t.ppf without the second that importing scipy.stats takes

    return float(stdtrit(freedom, probability))
