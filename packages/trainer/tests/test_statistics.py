"""Spread, Student's t and Welch's interval, against published tables and worked examples."""

import math
import statistics

import pytest

from trainer.statistics import difference, spread, student_cumulative, student_quantile


@pytest.mark.parametrize(
    ("freedom", "expected"),  # the usual table of the 97.5 % points
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799)],
)
def test_quantiles_are_those_of_the_table(freedom, expected):
    assert student_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-5)
    assert student_quantile(0.025, freedom) == pytest.approx(-expected, abs=5e-5)


def test_one_degree_of_freedom_is_cauchys_distribution():
    for value in (-3.0, -0.5, 0.0, 0.1, 2.0, 50.0):
        assert student_cumulative(value, 1) == pytest.approx(0.5 + math.atan(value) / math.pi, abs=1e-12)


def test_spread_and_welchs_interval():
    first, second = spread([3.0, 4.0, 1.0, 2.1]), spread([490.2, 340.0, 433.9])
    assert (first.n, first.low, first.high) == (4, 1.0, 4.0)
    assert first.mean == pytest.approx(2.525)
    assert second.deviation == pytest.approx(statistics.stdev([490.2, 340.0, 433.9]), rel=1e-12)
    # Equal numbers and equal spreads: Welch is the pooled test with 2n - 2 degrees of freedom.
    ours = difference(spread([1.0, 2.0, 3.0]), spread([11.0, 12.0, 13.0]))
    half = 2.776445 * math.sqrt(2 / 3)
    assert (ours.value, ours.low, ours.high) == pytest.approx((-10.0, -10 - half, -10 + half), abs=1e-5)
    assert difference(spread([1.0]), spread([2.0, 3.0])).low is None


@pytest.mark.parametrize(("probability", "freedom"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_what_is_no_probability_or_freedom_is_refused(probability, freedom):
    with pytest.raises(ValueError, match="expected"):
        student_quantile(probability, freedom)
