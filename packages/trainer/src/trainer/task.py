"""Arguments of a trainer, resolved for this machine, and the functions that a user passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from trainer.config import TrainConfig
from trainer.data import BatchSource, TokenSplit
from trainer.devices import Speed
from trainer.distributed import Parallel
from trainer.evaluation import LossFunction

Schedule: TypeAlias = Callable[[int], float]
"""schedule(step) -> learning rate, or a factor of the weight decay or momentum."""
SampleFunction: TypeAlias = Callable[[nn.Module, int], str | Sequence[str]]
"""sample(model, step) -> text or texts."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Arguments of a trainer, resolved for this machine."""

    parallel: Parallel
    """The model and the optimizer, and the way in which the processes train them."""
    loss_fn: LossFunction
    batches: BatchSource
    """Training batches of this process."""
    valid_data: TokenSplit
    config: TrainConfig
    schedule: Schedule | LRScheduler
    factor_schedules: Mapping[str, Schedule]
    """Schedules of the weight decay and the momentum, if there are any, by the name of the setting."""
    sample: SampleFunction | None
    callbacks: Sequence[object]
    device: torch.device
    dtype: torch.dtype
    speed: Speed
    description: dict[str, Any]
    """Content of `config.json`."""

    @property
    def model(self) -> nn.Module:
        """The model that loss functions and samples get."""
        return self.parallel.model
