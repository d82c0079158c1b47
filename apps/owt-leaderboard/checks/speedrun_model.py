"""The speedrun model of a GPU, for nnscratch's check of a training graph on an H100 that need not be present.

python packages/nnscratch/checks/lowered_for_cuda.py --model apps/owt-leaderboard/checks/speedrun_model.py:on_a_gpu
"""

from nnscratch.speedrun import RECIPES, make_model
from nnscratch.speedrun.language_model import SpeedrunLM


def on_a_gpu() -> SpeedrunLM:
    """Return the model of the recipe for GPUs, in its full size."""
    recipe = RECIPES["speedrun"]("cuda")
    return make_model(recipe, recipe.model.vocab_size)
