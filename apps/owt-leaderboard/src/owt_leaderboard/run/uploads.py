"""Uploads to Weights & Biases, which may finish after the time limit."""

import os

from trainer import WandbLogger
from trainer.loggers import LoggerGroup


class Uploads(LoggerGroup):
    """Logger for Weights & Biases, if requested, which stays open when the trainer closes it.

    `finish` closes the logger after the entry is written, when uploads no longer count towards the time limit.

    Args:
        mode: As for `trainer.WandbLogger`; with "disabled", nothing is logged.

    Raises:
        ModuleNotFoundError: If wandb is requested but not installed.
    """

    def __init__(self, mode: str) -> None:
        project = os.environ.get("WANDB_PROJECT", "owt-leaderboard")
        super().__init__([] if mode == "disabled" else [WandbLogger(mode, project=project)])  # type: ignore[arg-type]

    def close(self) -> None:
        """Do nothing: `finish` waits for the uploads, when the time limit no longer counts."""

    def finish(self) -> None:
        """Close the logger and wait for its uploads; a failure only causes a warning."""
        super().close()
