"""Recipes: what to train, how settings are changed and recorded, and the model and optimizer that follow from them."""

from owt_leaderboard.recipe.assembly import SCHEDULE_STEPS as SCHEDULE_STEPS
from owt_leaderboard.recipe.assembly import learning_rate_schedule as learning_rate_schedule
from owt_leaderboard.recipe.assembly import make_loss as make_loss
from owt_leaderboard.recipe.assembly import make_model as make_model
from owt_leaderboard.recipe.assembly import make_optimizer as make_optimizer
from owt_leaderboard.recipe.assembly import momentum_schedule as momentum_schedule
from owt_leaderboard.recipe.assembly import weight_decay_schedule as weight_decay_schedule
from owt_leaderboard.recipe.recipes import RECIPES as RECIPES
from owt_leaderboard.recipe.recipes import Recipe as Recipe
from owt_leaderboard.recipe.recipes import RecipeName as RecipeName
from owt_leaderboard.recipe.recipes import baseline as baseline
from owt_leaderboard.recipe.recipes import speedrun as speedrun
from owt_leaderboard.recipe.settings import SIZE_NAMES as SIZE_NAMES
from owt_leaderboard.recipe.settings import changed as changed
from owt_leaderboard.recipe.settings import from_record as from_record
from owt_leaderboard.recipe.settings import given_sizes as given_sizes
from owt_leaderboard.recipe.settings import to_record as to_record
from owt_leaderboard.recipe.settings import with_settings as with_settings
from owt_leaderboard.recipe.variants import FULL as FULL
from owt_leaderboard.recipe.variants import variants as variants
