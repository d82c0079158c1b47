"""Batch sizes to compare, with their steps and learning rates, and the limits of steps and memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median_high

import psutil

from tinystories.building import model_config
from tinystories.recipes import Recipe, at_rate

FEWEST_STEPS = 20  # a shorter run would show only the warm-up
MEMORY_SHARE = 0.7  # of the machine's: other programs need some, and the estimate leaves out workspace
TOKENS_SHARE = 0.4  # of the recipe's tokens in each run, because there are many runs
MOST_TOKENS = 20_480_000  # of a run by default: half of the handout's low-resource run


def batch_sizes() -> Iterator[int]:
    """1, 4, 16, 64, and from there on every doubling."""
    size = 1
    while True:
        yield size
        size *= 4 if size < 64 else 2


def default_tokens(recipe: Recipe) -> int:
    """Tokens of each run, unless the user asks for another number."""
    return min(round(recipe.tokens * TOKENS_SHARE), MOST_TOKENS)


def recipe_for(recipe: Recipe, batch_size: int, tokens: int) -> Recipe:
    """The recipe with another batch size and as many steps as `tokens` allow, at least one.

    Its learning rate follows the square root rule: gradients of B windows have 1 / sqrt(B) of the noise
    (Krizhevsky 2014, arXiv 1404.5997; for Adam Malladi et al. 2022, arXiv 2205.10287).
    """
    steps = max(1, tokens // (batch_size * recipe.context_length))
    rate = recipe.learning_rate * math.sqrt(batch_size / recipe.batch_size)
    return replace(at_rate(recipe, rate), batch_size=batch_size, steps=steps)


def default_target(losses: Sequence[float]) -> float | None:
    """The loss at which prices are compared by default: one that at least half of the batch sizes reach.

    Args:
        losses: Final loss of each batch size at its best rate, of the worst seed; infinite where there is none.
    """
    return median_high(losses) if losses and math.isfinite(median_high(losses)) else None


def obstacle(recipe: Recipe, *, on_cpu: bool) -> str | None:
    """The reason why a batch size is too large to try, or None: too few steps, or on a CPU too little memory.

    On other devices the limit is found by running out of memory, which ends that run cleanly.
    """
    if recipe.steps < FEWEST_STEPS:
        return (
            f"batch size {recipe.batch_size} would make {recipe.steps} steps of the tokens of a run; at least "
            f"{FEWEST_STEPS} are needed"
        )
    if on_cpu:
        from nnscratch import memory_estimate

        needed = memory_estimate(model_config(recipe, recipe.vocab_size), recipe.batch_size).total
        limit = MEMORY_SHARE * psutil.virtual_memory().total
        if needed > limit:
            return (
                f"batch size {recipe.batch_size} would take about {needed / 1e9:.1f} GB, more than {MEMORY_SHARE:.0%} "
                f"of the machine's memory"
            )
    return None
