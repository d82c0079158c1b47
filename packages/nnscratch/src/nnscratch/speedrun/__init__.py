"""Recipe of a speedrun: its model, its settings, and the sizes that suit a device and a time limit.

Recipes, their records, sizes and counts need no torch. `SpeedrunLM` is in `nnscratch.speedrun.language_model`.
"""

from nnscratch.speedrun.accounting import computing_parameters as computing_parameters
from nnscratch.speedrun.accounting import flops_per_token as flops_per_token
from nnscratch.speedrun.accounting import parameters_by_group as parameters_by_group
from nnscratch.speedrun.assembly import SCHEDULE_STEPS as SCHEDULE_STEPS
from nnscratch.speedrun.assembly import learn_ngrams as learn_ngrams
from nnscratch.speedrun.assembly import learning_rate_schedule as learning_rate_schedule
from nnscratch.speedrun.assembly import make_loss as make_loss
from nnscratch.speedrun.assembly import make_model as make_model
from nnscratch.speedrun.assembly import make_optimizer as make_optimizer
from nnscratch.speedrun.assembly import momentum_schedule as momentum_schedule
from nnscratch.speedrun.assembly import weight_decay_schedule as weight_decay_schedule
from nnscratch.speedrun.config import SWITCHES as SWITCHES
from nnscratch.speedrun.config import SpeedrunConfig as SpeedrunConfig
from nnscratch.speedrun.memory import in_passes_that_fit as in_passes_that_fit
from nnscratch.speedrun.recipes import RECIPES as RECIPES
from nnscratch.speedrun.recipes import OptimizerRecipe as OptimizerRecipe
from nnscratch.speedrun.recipes import Recipe as Recipe
from nnscratch.speedrun.recipes import RecipeName as RecipeName
from nnscratch.speedrun.recipes import baseline as baseline
from nnscratch.speedrun.recipes import speedrun as speedrun
from nnscratch.speedrun.settings import SIZE_NAMES as SIZE_NAMES
from nnscratch.speedrun.settings import changed as changed
from nnscratch.speedrun.settings import from_record as from_record
from nnscratch.speedrun.settings import full_name as full_name
from nnscratch.speedrun.settings import given_settings as given_settings
from nnscratch.speedrun.settings import given_sizes as given_sizes
from nnscratch.speedrun.settings import same_parameters as same_parameters
from nnscratch.speedrun.settings import to_record as to_record
from nnscratch.speedrun.settings import with_settings as with_settings
from nnscratch.speedrun.sizing import TRAINING_SHARE as TRAINING_SHARE
from nnscratch.speedrun.sizing import Choice as Choice
from nnscratch.speedrun.sizing import choose as choose
from nnscratch.speedrun.sizing import compiled_if_it_pays as compiled_if_it_pays
from nnscratch.speedrun.sizing import resized as resized
