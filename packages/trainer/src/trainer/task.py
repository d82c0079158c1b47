"""What a session works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.config import TrainConfig
from trainer.data.splits import TokenSplit
from trainer.devices.flops import Speed
from trainer.distributed.parallel import Parallel
from trainer.evaluation import LossFunction
from trainer.training.step import Schedule
from trainer.training.validation import SampleFunction


@dataclass(frozen=True, kw_only=True)
class Task:
    """The trainer's arguments, resolved for this machine."""

    parallel: Parallel
    """The model and the optimizer, and how the processes of the run train them."""
    loss_fn: LossFunction
    train_data: TokenSplit
    valid_data: TokenSplit
    config: TrainConfig
    schedule: Schedule
    sample: SampleFunction | None
    device: torch.device
    dtype: torch.dtype
    speed: Speed
    description: dict[str, Any]
    """What `config.json` says."""

    @property
    def model(self) -> nn.Module:
        """The model as loss functions and samples get it."""
        return self.parallel.model

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer of that model."""
        return self.parallel.optimizer
