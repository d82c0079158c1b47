"""Spread of a few numbers, and the difference of two means with its uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_TINY = 1e-300  # keeps the continued fraction from dividing by zero


@dataclass(frozen=True)
class Spread:
    """A sample in five numbers."""

    n: int
    mean: float
    deviation: float | None
    """Sample standard deviation (n - 1); None for a single value."""
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference of two means, and the interval that holds the true one with probability `CONFIDENCE`."""

    value: float
    low: float | None
    """None where the spread is not known: one value on a side, or no spread at all."""
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
    """Mean of `sample` less that of `reference`, with Welch's interval: the two may spread differently."""
    value = sample.mean - reference.mean
    if sample.deviation is None or reference.deviation is None:
        return Difference(value, None, None)
    parts = [one.deviation**2 / one.n for one in (sample, reference) if one.deviation is not None]
    if sum(parts) == 0:
        return Difference(value, None, None)
    # Welch and Satterthwaite's degrees of freedom, in shares of the sum: squares of small variances underflow.
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(share**2 / (one.n - 1) for share, one in zip(shares, (sample, reference), strict=True))
    half = student_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(sum(parts))
    return Difference(value, value - half, value + half)


def student_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t with `freedom` degrees stays under with this probability, by bisection.

    Raises:
        ValueError: the probability is not inside of (0, 1), or the degrees of freedom are not positive.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability {probability!r}: expected a value between 0 and 1")
    if not freedom > 0:
        raise ValueError(f"degrees of freedom {freedom!r}: expected a positive number")
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cumulative(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if student_cumulative(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_cumulative(value: float, freedom: float) -> float:
    """The probability that Student's t with `freedom` degrees is below `value`."""
    if value < 0:
        return 1 - student_cumulative(-value, freedom)
    whole = freedom + value**2
    return 1 - _incomplete_beta(freedom / whole, value**2 / whole, freedom / 2, 0.5) / 2


def _incomplete_beta(x: float, complement: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22).

    `complement` is 1 - x, which near 1 is known better than the difference would tell.
    """
    if x <= 0 or complement <= 0:
        return float(complement <= 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below this point only
        return 1 - _incomplete_beta(complement, x, b, a)
    front = (
        math.exp(a * math.log(x) + b * math.log(complement) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    )
    # Lentz's way to evaluate it from the front.
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _nonzero(1 + numerator * d)
            c = _nonzero(1 + numerator / c)
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * fraction


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
