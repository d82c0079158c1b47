"""Spread, Student's t and Welch's interval, against scipy."""

import math
import statistics as standard
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer.experiments.statistics import difference, spread, student_cumulative, student_quantile

values = st.floats(0.1, 12).map(lambda value: round(value, 5))
samples = st.lists(values, min_size=2, max_size=6)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 2.7, 4, 10, 33.3, 1000])
@pytest.mark.parametrize("probability", [0.0005, 0.025, 0.5, 0.6, 0.9, 0.975, 0.9995])
def test_quantiles_of_students_t(freedom, probability):
    expected = stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-50, 50), st.floats(1, 200))
def test_cumulative_of_students_t(value, freedom):
    assert student_cumulative(value, freedom) == pytest.approx(stats.t.cdf(value, freedom), abs=1e-11)


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


@pytest.mark.parametrize(("probability", "freedom"), [(0, 3), (1, 3), (1.5, 3), (0.5, 0), (0.5, -1), (0.5, math.nan)])
def test_quantiles_that_do_not_exist(probability, freedom):
    with pytest.raises(ValueError, match="expected"):
        student_quantile(probability, freedom)
