"""Spreads and Welch's interval, against the standard library and scipy."""

import math
import statistics as standard
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer.experiments.comparison import difference, spread, student_quantile

values = st.floats(0.1, 12).map(lambda value: round(value, 5))
samples = st.lists(values, min_size=2, max_size=6)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)])
def test_quantiles_are_those_of_the_printed_table(freedom, quantile):
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, abs=5e-4)
    assert student_quantile(0.025, freedom) == pytest.approx(-quantile, abs=5e-4)


@given(samples)
def test_spread(sample):
    found = spread(sample)
    assert found.n == len(sample)
    assert found.mean == pytest.approx(standard.fmean(sample))
    assert found.deviation == pytest.approx(standard.stdev(sample), abs=1e-9)
    assert (found.low, found.high) == (min(sample), max(sample))


@given(samples, samples)
def test_difference_is_welchs(sample, reference):
    found = difference(spread(sample), spread(reference))
    assert found.value == pytest.approx(standard.fmean(sample) - standard.fmean(reference), abs=1e-12)
    if len({*sample}) == len({*reference}) == 1:
        assert found.low is found.high is None
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # of scipy's, where one sample is constant
        expected = stats.ttest_ind(sample, reference, equal_var=False).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=1e-7, abs=1e-9)
    assert found.high == pytest.approx(expected.high, rel=1e-7, abs=1e-9)


def test_one_value_has_no_deviation_and_no_interval():
    assert spread([2.5]).deviation is None
    for sample, reference in (([2.5], [1.0, 2.0]), ([1.0, 2.0], [2.5]), ([1.0], [2.0])):
        found = difference(spread(sample), spread(reference))
        assert found.low is found.high is None
        assert math.isfinite(found.value)


def test_equal_values_have_no_spread_whatever_rounding_makes_of_their_mean():
    assert spread([0.1] * 3).deviation == 0
    assert difference(spread([0.1] * 3), spread([0.3] * 3)).low is None


def test_mean_and_deviation_are_shown_together():
    assert f"{spread([1.0, 2.0, 3.0]):.2f}" == "2.00 ± 1.00"
    assert f"{spread([1.5]):.1f}" == "1.5"
