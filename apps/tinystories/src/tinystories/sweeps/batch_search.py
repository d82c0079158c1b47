"""Which batch sizes to compare, with how many steps and at which rates, and where the memory ends."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median_high
from typing import NamedTuple

from tinystories.building import model_config
from tinystories.recipes import Recipe, at_rate

FEWEST_STEPS = 20  # fewer updates than that show the warm-up and nothing else
MEMORY_SHARE = 0.7  # of the machine's, because other programs have some and the estimate lacks workspace
TOKENS_SHARE = 0.4  # of the recipe's tokens in each run, because many are made
MOST_TOKENS = 20_480_000  # of a run, where none are asked for: half of the handout's low-resource run


class Stop(NamedTuple):
    """Why no larger batches are tried."""

    reason: str


def batch_sizes() -> Iterator[int]:
    """1, 4, 16, 64, and from there on every doubling."""
    size = 1
    while True:
        yield size
        size *= 4 if size < 64 else 2


def recipe_for(recipe: Recipe, batch_size: int, tokens: int) -> Recipe:
    """The recipe with another batch size and as many steps as `tokens` allow, at least one.

    Its rate is the one that the square root rule gives: gradients of B windows have 1 / sqrt(B) of the noise
    (Krizhevsky 2014, arXiv 1404.5997; for Adam Malladi et al. 2022, arXiv 2205.10287).
    """
    steps = max(1, tokens // (batch_size * recipe.context_length))
    rate = recipe.learning_rate * math.sqrt(batch_size / recipe.batch_size)
    return replace(at_rate(recipe, rate), batch_size=batch_size, steps=steps)


def default_target(losses: Sequence[float]) -> float | None:
    """The loss whose price is compared where none is asked for: one that at least half of the batch sizes reach.

    Args:
        losses: the final loss of each batch size at its best rate, of the worst seed; infinite where there is none.
    """
    return median_high(losses) if losses and math.isfinite(median_high(losses)) else None


def why_not(recipe: Recipe, *, on_cpu: bool) -> Stop | None:
    """Whether a batch size is too large to be tried: too few steps, or on a CPU more memory than the machine has.

    On other devices memory is found out by trying, which ends a run in order.
    """
    if recipe.steps < FEWEST_STEPS:
        return Stop(
            f"batch size {recipe.batch_size} would make {recipe.steps} steps of the tokens of a run; at least "
            f"{FEWEST_STEPS} are needed"
        )
    if on_cpu:
        from nnscratch import memory_estimate

        needed = memory_estimate(model_config(recipe, recipe.vocab_size), recipe.batch_size).total
        limit = MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > limit:
            return Stop(
                f"batch size {recipe.batch_size} would take about {needed / 1e9:.1f} GB, more than {MEMORY_SHARE:.0%} "
                f"of the machine's memory"
            )
    return None
