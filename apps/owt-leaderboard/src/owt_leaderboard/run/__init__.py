"""Runs: one within a time limit, one of a number of steps, many in processes of their own, and finished ones."""

from owt_leaderboard.run.device_checks import Check as Check
from owt_leaderboard.run.device_checks import Verdict as Verdict
from owt_leaderboard.run.device_checks import check_disk as check_disk
from owt_leaderboard.run.device_checks import check_kernels as check_kernels
from owt_leaderboard.run.processes import PlannedRun as PlannedRun
from owt_leaderboard.run.processes import complete as complete
from owt_leaderboard.run.processes import complete_all as complete_all
from owt_leaderboard.run.processes import finished as finished
from owt_leaderboard.run.rate_search import RateSearch as RateSearch
from owt_leaderboard.run.rate_search import search_rates as search_rates
from owt_leaderboard.run.rate_trials import RateTrials as RateTrials
from owt_leaderboard.run.timed_run import TimedRun as TimedRun
from owt_leaderboard.run.timed_run import WandbMode as WandbMode
from owt_leaderboard.run.trained_run import APP as APP
from owt_leaderboard.run.trained_run import evaluate_run as evaluate_run
from owt_leaderboard.run.trained_run import measurement_of as measurement_of
from owt_leaderboard.run.training import train as train
from owt_leaderboard.run.trial import TrialFailedError as TrialFailedError
from owt_leaderboard.run.trial import run_trial as run_trial
from owt_leaderboard.run.trial import trial_steps as trial_steps
from owt_leaderboard.run.tuned_rates import TunedRates as TunedRates
from owt_leaderboard.run.tuned_rates import find_rates as find_rates
from owt_leaderboard.run.tuned_rates import rates_file as rates_file
from owt_leaderboard.run.tuned_rates import rates_to_tune as rates_to_tune
from owt_leaderboard.run.tuned_rates import shown_rates as shown_rates
from owt_leaderboard.run.tuned_rates import write_rates as write_rates
