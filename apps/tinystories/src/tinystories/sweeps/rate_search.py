"""Searches for learning rates, which try some rates and choose the next ones by their losses."""

import math
from collections.abc import Callable

TryRates = Callable[[list[float]], dict[float, float]]
"""Returns the loss at each rate, infinite where training diverged."""

COARSE = 4.0  # ratio of neighbouring rates at first
FINE = 2.0  # ratio to the best of them


def round_rate(rate: float) -> float:
    """Round a rate to two significant digits, for names of runs."""
    return float(f"{rate:.2g}")


def find_edge(start: float, try_rates: TryRates, *, max_rates: int) -> dict[float, float]:
    """Sweep from far below `start` up into divergence, then refine the best rate and the edge of stability.

    The first rates lie a factor of 4 apart. The search then tries the neighbours of the best rate at a factor of 2, and
    of the new best rate at sqrt(2). Last, the search halves the gap between the highest stable rate and the lowest
    divergent rate twice, each time at their geometric mean.

    Args:
        start: A rate expected to be good.
        try_rates: Trains at several rates.
        max_rates: Limit on the number of rates.

    Returns:
        The loss at every rate tried.
    """
    tried: dict[float, float] = {}

    def explore(*rates: float) -> None:
        rounded = dict.fromkeys(round_rate(rate) for rate in rates)
        if new := [rate for rate in rounded if rate not in tried][: max_rates - len(tried)]:
            tried.update(try_rates(new))

    explore(start / COARSE**2, start / COARSE, start, start * COARSE)
    while len(tried) < max_rates and all(map(math.isfinite, tried.values())):
        explore(max(tried) * COARSE)
    while len(tried) < max_rates and best_rate(tried) in (None, min(tried)):
        explore(min(tried) / COARSE)
    for factor in (FINE, math.sqrt(FINE)):
        best = best_rate(tried)
        if best is None:
            return tried
        explore(best / factor, best * factor)
    for _ in range(2):
        stable, divergent = edge_of_stability(tried)
        if stable is None or divergent is None:
            return tried
        explore(math.sqrt(stable * divergent))
    return tried


def climb(start: float, try_rates: TryRates, *, max_rates: int) -> dict[float, float]:
    """Try `start` and its neighbours, then continue in the better direction until the best rate has worse neighbours.

    Arguments and result are those of `find_edge`.
    """
    tried: dict[float, float] = {}
    proposal = [round_rate(rate) for rate in (start, start / FINE, start * FINE)][:max_rates]
    while proposal:
        tried |= try_rates(proposal)
        best = best_rate(tried)
        if best is None:  # all diverged
            proposal = [round_rate(min(tried) / FINE)]
        elif best == min(tried):
            proposal = [round_rate(best / FINE)]
        elif best == max(tried):
            proposal = [round_rate(best * FINE)]
        else:
            break
        proposal = [rate for rate in proposal if rate not in tried][: max_rates - len(tried)]
    return tried


def best_rate(losses: dict[float, float]) -> float | None:
    """Return the rate with the lowest loss; None if training diverged at every rate."""
    stable = {rate: loss for rate, loss in losses.items() if math.isfinite(loss)}
    return min(stable, key=lambda rate: stable[rate]) if stable else None


def edge_of_stability(losses: dict[float, float]) -> tuple[float | None, float | None]:
    """Return the highest stable rate below the lowest divergent rate, and the lowest divergent rate.

    A rate is None if it does not exist.
    """
    divergent = min((rate for rate, loss in losses.items() if not math.isfinite(loss)), default=None)
    stable = [rate for rate, loss in losses.items() if math.isfinite(loss) and (divergent is None or rate < divergent)]
    return max(stable, default=None), divergent
