"""The speedrun's language model: its architecture, its layers and what they cost.

`SpeedrunLM` needs torch and is imported from `owt_leaderboard.model.language_model`.
"""

from owt_leaderboard.model.accounting import computing_parameters, flops_per_token, parameters_by_group
from owt_leaderboard.model.config import SWITCHES, SpeedrunConfig

__all__ = ["SWITCHES", "SpeedrunConfig", "computing_parameters", "flops_per_token", "parameters_by_group"]
