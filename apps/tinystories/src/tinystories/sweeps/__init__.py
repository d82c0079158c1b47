"""Training many runs: one after the other or in processes of their own, and searching rates and batch sizes."""

from tinystories.sweeps.batch_search import batch_sizes, default_target, default_tokens, obstacle, recipe_for
from tinystories.sweeps.rate_search import best_rate, climb, explore, find_edge, given
from tinystories.sweeps.runs import Run
from tinystories.sweeps.sweep import Sweep

__all__ = [
    "Run",
    "Sweep",
    "batch_sizes",
    "best_rate",
    "climb",
    "default_target",
    "default_tokens",
    "explore",
    "find_edge",
    "given",
    "obstacle",
    "recipe_for",
]
