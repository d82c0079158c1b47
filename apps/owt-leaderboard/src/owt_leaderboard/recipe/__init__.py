"""Recipes: what to train, how settings are changed and recorded, and the model and optimizer that follow from them."""

from owt_leaderboard.recipe.assembly import (
    SCHEDULE_STEPS,
    learning_rate_schedule,
    make_loss,
    make_model,
    make_optimizer,
)
from owt_leaderboard.recipe.recipes import RECIPES, Recipe, RecipeName, baseline, speedrun
from owt_leaderboard.recipe.settings import (
    SIZE_NAMES,
    changed,
    flat,
    from_record,
    given_sizes,
    to_record,
    with_settings,
)
from owt_leaderboard.recipe.variants import FULL, variants

__all__ = [
    "FULL",
    "RECIPES",
    "SCHEDULE_STEPS",
    "SIZE_NAMES",
    "Recipe",
    "RecipeName",
    "baseline",
    "changed",
    "flat",
    "from_record",
    "given_sizes",
    "learning_rate_schedule",
    "make_loss",
    "make_model",
    "make_optimizer",
    "speedrun",
    "to_record",
    "variants",
    "with_settings",
]
