"""Runs: one within a time limit, one of a number of steps, many in processes of their own, and finished ones."""

from owt_leaderboard.run.finished_run import evaluate_run, measurement_of
from owt_leaderboard.run.processes import PlannedRun, complete, complete_all
from owt_leaderboard.run.timed_run import TimedRun, WandbMode, compiled_if_it_pays, prepared_by_one
from owt_leaderboard.run.training import train

__all__ = [
    "PlannedRun",
    "TimedRun",
    "WandbMode",
    "compiled_if_it_pays",
    "complete",
    "complete_all",
    "evaluate_run",
    "measurement_of",
    "prepared_by_one",
    "train",
]
