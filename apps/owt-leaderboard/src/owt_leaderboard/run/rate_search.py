"""Search for learning rates by their losses, each of which takes a training run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Rates = Mapping[str, float]
LossFunction = Callable[[Rates, int, int], float]
"""loss(rates, seed, length) -> validation loss of a run of `length` times the steps of a short trial; not finite if it
diverged."""

FACTORS = (2.0, 2**0.5)
"""Factors by which rates change; the next one begins where the one before finds nothing better."""
SEEDS = (0, 1)
"""Seeds of the final trials; the search uses the first one."""
FINAL_LENGTH = 3
"""Length of a final trial in short ones. The shorter a run, the higher its best rates, so short ones do not decide."""
FINAL_TRIALS = 2 * len(SEEDS) * FINAL_LENGTH
"""Time for all final trials, in short ones."""


@dataclass(frozen=True)
class RateTrial:
    """A trial of the search."""

    rates: dict[str, float]
    seed: int
    length: int
    loss: float
    """Validation loss; infinity if the trial diverged."""


@dataclass(frozen=True)
class RateSearch:
    """Trials of a search, and the conclusion from them."""

    trials: tuple[RateTrial, ...]
    best: dict[str, float]
    """Rates with the lowest loss of the short trials."""
    base_losses: tuple[float, ...]
    """Losses of the final trials with the rates at the beginning, by seed; none if these are the best."""
    best_losses: tuple[float, ...]
    """The same with the best rates."""

    @property
    def noise(self) -> float:
        """Difference between the final losses of the rates at the beginning; 0 if one of them diverged."""
        finite = [loss for loss in self.base_losses if math.isfinite(loss)]
        return max(finite) - min(finite) if finite else 0.0

    @property
    def is_better(self) -> bool:
        """True if the best rates lower the final loss of each seed by more than the noise."""
        pairs = list(zip(self.base_losses, self.best_losses, strict=True))
        return bool(pairs) and all(base - best > self.noise for base, best in pairs)


def search_rates(loss_of: LossFunction, base: Rates, has_time: Callable[[int], bool]) -> RateSearch:
    """Search for better rates by the pattern search of Hooke and Jeeves (1961), in the logarithms of the rates.

    A round multiplies or divides by a factor all rates together, and then each by itself, and keeps every improvement.
    It therefore tries the neighbours of a rate again after another rate has changed. After a round with an improvement,
    the whole change of the round is made once more. If short trials have found better rates, longer ones with two seeds
    compare them with those at the beginning.

    Args:
        loss_of: Makes a trial. Trials of one seed and length are compared with each other.
        base: Rates at the beginning, which are tried whatever the time.
        has_time: has_time(number) -> whether there is time for so many short trials more.
    """
    trials: list[RateTrial] = []

    def attempt(rates: Rates, seed: int, length: int = 1) -> float:
        loss = loss_of(rates, seed, length)
        trials.append(RateTrial(dict(rates), seed, length, loss if math.isfinite(loss) else math.inf))
        return trials[-1].loss

    best, lowest = dict(base), attempt(base, SEEDS[0])
    tried = {_key(base)}

    def improves(rates: Rates) -> bool:
        """Try rates that are new, if there is time for them and for the final trials; keep them if they are better."""
        nonlocal best, lowest
        if _key(rates) in tried or not has_time(1 + FINAL_TRIALS):
            return False
        tried.add(_key(rates))
        loss = attempt(rates, SEEDS[0])
        if loss >= lowest:
            return False
        best, lowest = dict(rates), loss
        return True

    directions = [frozenset(base), *(frozenset([name]) for name in base)][len(base) == 1 :]
    rises = dict.fromkeys(directions, True)
    """Whether a direction is first tried upwards, as it last succeeded."""
    for factor in FACTORS:
        has_improved = True
        while has_improved:
            before = best
            for names in directions:
                for up in (rises[names], not rises[names]):
                    change = factor if up else 1 / factor
                    if improves({name: rate * (change if name in names else 1.0) for name, rate in best.items()}):
                        rises[names] = up
                        break
            has_improved = best != before
            if has_improved:
                improves({name: rate * rate / before[name] for name, rate in best.items()})
    base_losses, best_losses = (
        tuple(attempt(rates, seed, FINAL_LENGTH) for seed in SEEDS) if best != base else () for rates in (base, best)
    )
    return RateSearch(tuple(trials), best, base_losses, best_losses)


def _key(rates: Rates) -> tuple[float, ...]:
    """Return the rates up to rounding errors."""
    return tuple(round(math.log2(rate), 6) for rate in rates.values())
