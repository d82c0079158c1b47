"""Training many runs: one after the other or in processes of their own, and searching rates and batch sizes."""

from tinystories.sweeps.batch_search import batch_sizes as batch_sizes
from tinystories.sweeps.batch_search import default_target as default_target
from tinystories.sweeps.batch_search import default_tokens as default_tokens
from tinystories.sweeps.batch_search import obstacle as obstacle
from tinystories.sweeps.batch_search import recipe_for as recipe_for
from tinystories.sweeps.rate_search import best_rate as best_rate
from tinystories.sweeps.rate_search import climb as climb
from tinystories.sweeps.rate_search import find_edge as find_edge
from tinystories.sweeps.runs import Run as Run
from tinystories.sweeps.sweep import Sweep as Sweep
