"""The searches for learning rates, on losses whose best rate and edge of stability are known."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinystories.sweeps.rate_search import best_rate, climb, edge_of_stability, find_edge


def valley(optimum, edge):
    """A loss with one minimum, on a logarithmic axis, and divergence above the edge."""
    asked = []

    def losses(rates):
        asked.append(list(rates))
        return {rate: math.inf if rate > edge else math.log(rate / optimum) ** 2 for rate in rates}

    return losses, asked


starts = st.floats(1e-5, 10.0)
factors = st.floats(0.02, 50.0)


@settings(max_examples=300, deadline=None)
@given(starts, factors, factors)
def test_the_best_rate_is_found_within_the_finest_step_and_divergence_is_met(start, optimum, edge):
    optimum, edge = start * optimum, start * optimum * max(edge, 1.5)
    losses, asked = valley(optimum, edge)
    tried = find_edge(start, losses, max_rates=40)
    best = best_rate(tried)
    # Finally neighbours lie sqrt(2) apart; rounding to two digits moves each by up to 5 %.
    assert abs(math.log(best / optimum)) <= math.log(2) / 2 + 0.12
    stable, divergent = edge_of_stability(tried)
    assert stable <= edge < divergent
    # Neighbours a factor of 4 apart, halved twice on a logarithmic axis.
    assert divergent / stable <= 4 ** (1 / 4) * 1.15
    flat = [rate for rates in asked for rate in rates]
    assert len(flat) == len(set(flat)) == len(tried)


@settings(max_examples=100, deadline=None)
@given(starts, factors, st.integers(1, 14))
def test_no_more_rates_are_tried_than_allowed(start, optimum, most):
    losses, _ = valley(start * optimum, start * optimum * 3)
    assert 1 <= len(find_edge(start, losses, max_rates=most)) <= most
    losses, _ = valley(start * optimum, start * optimum * 3)
    assert 1 <= len(climb(start, losses, max_rates=most)) <= most


@settings(max_examples=100, deadline=None)
@given(starts, st.floats(0.05, 20.0))
def test_climbing_ends_at_the_best_of_the_factors(start, optimum):
    losses, _ = valley(start * optimum, math.inf)
    best = best_rate(climb(start, losses, max_rates=20))
    assert abs(math.log(best / (start * optimum))) <= math.log(2) / 2 + 0.12


def test_climbing_comes_down_from_divergence():
    losses, _ = valley(0.001, 0.002)
    assert best_rate(climb(0.1, losses, max_rates=20)) == pytest.approx(0.001, rel=0.5)


def test_everything_diverges():
    tried = find_edge(1.0, lambda rates: dict.fromkeys(rates, math.inf), max_rates=8)
    assert best_rate(tried) is None
    assert edge_of_stability(tried) == (None, min(tried))


def test_nothing_diverges():
    tried = find_edge(1.0, lambda rates: {rate: 1.0 / rate for rate in rates}, max_rates=8)
    assert len(tried) == 8
    assert edge_of_stability(tried) == (max(tried), None)


def test_rates_have_two_digits():
    losses, _ = valley(0.0123, 1.0)
    tried = find_edge(0.01234567, losses, max_rates=12)
    assert all(rate == float(f"{rate:.2g}") for rate in tried)


def test_a_single_rate_is_the_one_that_was_given():
    assert list(climb(0.03, lambda rates: dict.fromkeys(rates, 3.0), max_rates=1)) == [0.03]
    assert list(climb(0.03, lambda rates: dict.fromkeys(rates, 3.0), max_rates=2)) == [0.03, 0.015]
