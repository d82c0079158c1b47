"""Time budget of a run: the clock of its limit, the model size that fits a device, and predictions of the loss."""

from owt_leaderboard.budget.clock import EXIT_SECONDS, SESSIONS_FILE, Sessions, process_age, read_sessions
from owt_leaderboard.budget.scaling import (
    MIN_RUNS,
    PACKAGED,
    Measurement,
    measured_on,
    nearest_speed,
    predict_loss,
    read_measurements,
    write_measurements,
)
from owt_leaderboard.budget.sizing import TRAINING_SHARE, choose, resized
from owt_leaderboard.budget.speed_trial import ASSUMED_UTILISATION, COMPILING_SECONDS, size_for_device

__all__ = [
    "ASSUMED_UTILISATION",
    "COMPILING_SECONDS",
    "EXIT_SECONDS",
    "MIN_RUNS",
    "PACKAGED",
    "SESSIONS_FILE",
    "TRAINING_SHARE",
    "Measurement",
    "Sessions",
    "choose",
    "measured_on",
    "nearest_speed",
    "predict_loss",
    "process_age",
    "read_measurements",
    "read_sessions",
    "resized",
    "size_for_device",
    "write_measurements",
]
