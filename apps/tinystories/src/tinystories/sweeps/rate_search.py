"""Searches for learning rates: generators that propose rates, receive their losses, and propose again."""

import math
from collections.abc import Callable, Generator, Sequence

Search = Generator[list[float], dict[float, float], None]
"""Generator that yields rates to try, and receives the loss at each rate, infinite where training diverged."""

COARSE = 4.0  # ratio of neighbouring rates at first
FINE = 2.0  # ratio to the best of them


def round_rate(rate: float) -> float:
    """Round a rate to two significant digits, for names of runs."""
    return float(f"{rate:.2g}")


def find_edge(start: float, *, max_rates: int) -> Search:
    """Sweep from far below `start` up into divergence, then refine the best rate and the edge of stability.

    The first rates lie a factor of 4 apart. The search then tries the neighbours of the best rate at a factor of 2, and
    of the new best rate at sqrt(2). Last, the search halves the gap between the highest stable rate and the lowest
    divergent rate twice, each time at their geometric mean.

    Args:
        start: A rate expected to be good.
        max_rates: Limit on the number of rates.
    """
    tried: dict[float, float] = {}

    def new(*rates: float) -> list[float]:
        rounded = dict.fromkeys(round_rate(rate) for rate in rates)
        return [rate for rate in rounded if rate not in tried][: max_rates - len(tried)]

    yield from _try(tried, new(start / COARSE**2, start / COARSE, start, start * COARSE))
    while len(tried) < max_rates and all(map(math.isfinite, tried.values())):
        yield from _try(tried, new(max(tried) * COARSE))
    while len(tried) < max_rates and best_rate(tried) in (None, min(tried)):
        yield from _try(tried, new(min(tried) / COARSE))
    for factor in (FINE, math.sqrt(FINE)):
        best = best_rate(tried)
        if best is None:
            return
        yield from _try(tried, new(best / factor, best * factor))
    for _ in range(2):
        stable, divergent = edge_of_stability(tried)
        if stable is None or divergent is None:
            return
        yield from _try(tried, new(math.sqrt(stable * divergent)))


def climb(start: float, *, max_rates: int, factor: float = FINE) -> Search:
    """Try `start` and its neighbours, then continue in the better direction until the best rate has worse neighbours.

    Args:
        start: A rate expected to be good.
        max_rates: Limit on the number of rates.
        factor: Ratio of neighbouring rates.
    """
    tried: dict[float, float] = {}
    proposal = [round_rate(rate) for rate in (start, start / factor, start * factor)][:max_rates]
    while proposal:
        yield from _try(tried, proposal)
        best = best_rate(tried)
        if best is None:  # all diverged
            proposal = [round_rate(min(tried) / factor)]
        elif best == min(tried):
            proposal = [round_rate(best / factor)]
        elif best == max(tried):
            proposal = [round_rate(best * factor)]
        else:
            return
        proposal = [rate for rate in proposal if rate not in tried][: max_rates - len(tried)]


def given(rates: Sequence[float]) -> Search:
    """Try exactly these rates."""
    yield list(rates)


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


def explore(search: Search, try_rates: Callable[[list[float]], dict[float, float]]) -> dict[float, float]:
    """Run a search to its end.

    Args:
        search: Generator that proposes rates.
        try_rates: Function that returns the loss at each rate, infinite where training diverged.

    Returns:
        The loss at every rate tried.
    """
    losses: dict[float, float] = {}
    rates = next(search, None)
    while rates is not None:
        results = try_rates(rates)
        losses |= results
        try:
            rates = search.send(results)
        except StopIteration:
            return losses
    return losses


def _try(tried: dict[float, float], rates: list[float]) -> Search:
    """Propose rates, unless there are none, and add their losses to `tried`."""
    if rates:
        tried |= yield rates
