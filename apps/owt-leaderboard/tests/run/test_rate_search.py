"""The search for learning rates, on surfaces whose lowest point is known."""

import math
import random

import pytest

from owt_leaderboard.run import FINAL_LENGTH, FINAL_TRIALS, search_rates

BASE = {"muon": 0.02, "embedding": 0.3, "head": 0.008, "scalar": 0.01}


class Surface:
    """Losses of a quadratic function of the logarithms of the rates, with an optimum at some factors of BASE.

    `coupling` makes the best rate of each parameter group depend on the others.
    """

    def __init__(self, factors, *, curvature=0.02, coupling=0.0, seeds=0.001, diverges_above=math.inf):
        self.centre = {name: math.log2(rate * factors.get(name, 1.0)) for name, rate in BASE.items()}
        self.curvature, self.coupling, self.seeds = curvature, coupling, seeds
        self.diverges_above = diverges_above
        self.calls = []

    def __call__(self, rates, seed, length):
        self.calls.append((dict(rates), seed, length))
        if rates["muon"] > self.diverges_above:
            return math.nan
        steps = [math.log2(rates[name]) - self.centre[name] for name in BASE]
        loss = 4 + self.curvature * (sum(step**2 for step in steps) + self.coupling * sum(steps) ** 2)
        return loss + self.seeds * seed

    def has_time(self, budget):
        return lambda trials: self.spent() + trials <= budget

    def spent(self):
        return sum(length for _, _, length in self.calls)

    def factors(self, rates):
        return {name: rates[name] / 2 ** self.centre[name] for name in BASE}


@pytest.mark.parametrize(
    ("factors", "coupling"),
    [
        ({"muon": 2.0, "head": 0.5}, 0.0),
        ({"muon": 4.0, "embedding": 4.0, "head": 4.0, "scalar": 4.0}, 1.0),
        ({"muon": 16.0, "embedding": 16.0, "head": 16.0, "scalar": 16.0}, 1.0),  # one by one would be slow
        ({"muon": 2.0, "embedding": 0.25, "scalar": 2**1.5}, 0.3),
    ],
)
def test_the_optimum_is_found_within_the_budget(factors, coupling):
    surface = Surface(factors, coupling=coupling)
    found = search_rates(surface, BASE, surface.has_time(45))
    assert surface.spent() <= 45
    assert all(0.7 < factor < 1.42 for factor in surface.factors(found.best).values())
    assert found.is_better
    assert found.best_losses[0] == min(trial.loss for trial in found.trials)


def test_no_rates_are_tried_twice_and_longer_trials_decide():
    surface = Surface({"muon": 2.0})
    found = search_rates(surface, BASE, surface.has_time(100))
    assert surface.calls[0] == (BASE, 0, 1)
    assert len({(tuple(rates.values()), seed, length) for rates, seed, length in surface.calls}) == len(surface.calls)
    assert surface.calls[-4:] == [(rates, seed, FINAL_LENGTH) for rates in (BASE, found.best) for seed in (0, 1)]
    assert all((seed, length) == (0, 1) for _, seed, length in surface.calls[:-4])
    assert [(trial.rates, trial.seed, trial.length) for trial in found.trials] == surface.calls


def test_a_gain_that_longer_trials_do_not_have_does_not_count():
    def loss(rates, seed, length):
        return 4.0 - (length == 1) * math.log2(rates["muon"] / 0.02) + 0.001 * seed

    calls = iter([True] * 9)
    found = search_rates(loss, BASE, lambda trials: next(calls, False))
    assert found.best["muon"] > BASE["muon"]
    assert not found.is_better


def test_a_gain_below_the_difference_between_two_seeds_does_not_count():
    surface = Surface({"muon": 2.0}, curvature=0.004, seeds=0.01)
    found = search_rates(surface, BASE, surface.has_time(30))
    assert found.best["muon"] == 2 * BASE["muon"]
    assert not found.is_better
    assert found.noise == pytest.approx(0.01)


def test_without_time_only_the_base_is_tried():
    surface = Surface({"muon": 2.0})
    found = search_rates(surface, BASE, surface.has_time(1 + FINAL_TRIALS))
    assert (len(found.trials), found.best, found.is_better) == (1, BASE, False)


def test_a_gain_of_one_seed_alone_does_not_count():
    def loss(rates, seed, length):
        return 4.0 if rates == BASE or seed == 1 else 3.9

    calls = iter([True] * 10)
    found = search_rates(loss, BASE, lambda trials: next(calls, False))
    assert (found.best_losses, found.noise) == ((3.9, 4.0), 0.0)
    assert not found.is_better


def test_noise_alone_is_not_often_taken_for_a_gain():
    """The lowest of many draws is a fluctuation, which the second seed seldom repeats."""

    def is_taken(number):
        rng, calls = random.Random(number), iter([True] * 30)
        return search_rates(lambda *_: rng.gauss(4, 0.01), BASE, lambda trials: next(calls, False)).is_better

    assert sum(map(is_taken, range(200))) < 30


def test_a_trial_that_diverges_counts_as_the_worst():
    surface = Surface({"muon": 1.9, "head": 4.0}, diverges_above=0.03)
    found = search_rates(surface, BASE, surface.has_time(50))
    assert found.best["muon"] <= 0.03
    assert surface.factors(found.best)["head"] == pytest.approx(1.0)
    assert found.is_better
    assert math.inf in [trial.loss for trial in found.trials]


def test_a_base_that_diverges_is_replaced_and_kept_if_all_do():
    surface = Surface({"muon": 0.25}, diverges_above=0.015)
    found = search_rates(surface, BASE, surface.has_time(30))
    assert (found.base_losses, found.noise) == ((math.inf, math.inf), 0.0)
    assert found.is_better
    assert found.best["muon"] < 0.015
    surface = Surface({}, diverges_above=0.0)
    found = search_rates(surface, BASE, surface.has_time(25))
    assert (found.best, found.is_better) == (BASE, False)


def test_a_single_rate_has_no_direction_twice():
    calls = []

    def loss(rates, seed, length):
        calls.append(rates)
        return (math.log2(rates["head"]) - 1) ** 2 + seed

    assert search_rates(loss, {"head": 1.0}, lambda trials: True).best == {"head": 2.0}
    assert len(calls) == 5 + 4  # 1, 2, 4 (twice the change), 2 sqrt(2) and sqrt(2), and the final ones
