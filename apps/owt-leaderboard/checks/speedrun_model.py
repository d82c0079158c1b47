"""The speedrun model of a GPU, for nnscratch's check of a training graph on an H100 that need not be present.

python packages/nnscratch/checks/lowered_for_cuda.py --model apps/owt-leaderboard/checks/speedrun_model.py:on_a_gpu
"""

from owt_leaderboard.model.language_model import SpeedrunLM
from owt_leaderboard.recipe import RECIPES, make_model


def on_a_gpu() -> SpeedrunLM:
    """Return the model of the recipe for GPUs, in its full size."""
    recipe = RECIPES["speedrun"]("cuda")
    return make_model(recipe, recipe.model.vocab_size)
