"""Time budget of a run: the clock of its limit, the model size that fits a device, and predictions of the loss."""

from owt_leaderboard.budget import prediction as prediction
from owt_leaderboard.budget.clock import EXIT_SECONDS as EXIT_SECONDS
from owt_leaderboard.budget.clock import SESSIONS_FILE as SESSIONS_FILE
from owt_leaderboard.budget.clock import Sessions as Sessions
from owt_leaderboard.budget.clock import doubted_age as doubted_age
from owt_leaderboard.budget.clock import process_age as process_age
from owt_leaderboard.budget.clock import read_sessions as read_sessions
from owt_leaderboard.budget.scaling import MIN_RUNS as MIN_RUNS
from owt_leaderboard.budget.scaling import PACKAGED as PACKAGED
from owt_leaderboard.budget.scaling import Measurement as Measurement
from owt_leaderboard.budget.scaling import measured_on as measured_on
from owt_leaderboard.budget.scaling import nearest_speed as nearest_speed
from owt_leaderboard.budget.scaling import predict_loss as predict_loss
from owt_leaderboard.budget.scaling import read_measurements as read_measurements
from owt_leaderboard.budget.scaling import write_measurements as write_measurements
