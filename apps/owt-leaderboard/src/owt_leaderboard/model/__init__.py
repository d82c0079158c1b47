"""The speedrun's language model: its architecture, its layers and what they cost.

`SpeedrunLM` needs torch and is imported from `owt_leaderboard.model.language_model`.
"""

from owt_leaderboard.model.accounting import computing_parameters as computing_parameters
from owt_leaderboard.model.accounting import flops_per_token as flops_per_token
from owt_leaderboard.model.accounting import parameters_by_group as parameters_by_group
from owt_leaderboard.model.config import SWITCHES as SWITCHES
from owt_leaderboard.model.config import SpeedrunConfig as SpeedrunConfig
