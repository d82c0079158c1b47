"""Loggers whose last uploads come after the time limit."""

import os

from trainer import WandbLogger
from trainer.loggers import LoggerGroup


class Uploads(LoggerGroup):
    """Weights & Biases, if requested; the trainer's `close` leaves it open, and `finish` closes it.

    Args:
        mode: As for `trainer.WandbLogger`; "disabled" uses no logger at all.

    Raises:
        ModuleNotFoundError: If wandb is requested but not installed.
    """

    def __init__(self, mode: str) -> None:
        project = os.environ.get("WANDB_PROJECT", "owt-leaderboard")
        super().__init__([] if mode == "disabled" else [WandbLogger(mode, project=project)])  # type: ignore[arg-type]

    def close(self) -> None:
        """Do nothing, because uploads may wait until the limit no longer counts."""

    def finish(self) -> None:
        """Close the logger and wait for its uploads; a failure is only warned about."""
        super().close()
