"""The mean of the weights of a run's last part, which its end is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trainer.checkpoints.state_dicts import fitting, get_parameters
from trainer.config import TrainConfig
from trainer.distributed.parallel import Parallel
from trainer.training.progress import Progress


class WeightAverage:
    """A uniform running mean of the weights after each step of a run's tail; buffers are left as they are.

    Stochastic weight averaging (Izmailov et al. 2018), of every step as in tail averaging (Jain et al. 2018) instead of
    once an epoch, and beside training as in latest weight averaging (Kaddour 2022). The mean is kept on the device, in
    float32 at least; with FSDP each process has its part.

    Args:
        parallel: whose parameters are averaged, divided among the processes already.
        config: says from when on.
        progress: knows how many steps are in the mean.
        means: those of the checkpoint from which the run goes on, by the parameters' names; empty if it has none.
    """

    def __init__(
        self, parallel: Parallel, config: TrainConfig, progress: Progress, means: Mapping[str, torch.Tensor]
    ) -> None:
        self._own_part = parallel.own_part
        self._config = config
        self._progress = progress
        self._parameters = get_parameters(parallel.model)
        self._means = {
            name: fitting(mean.to(self._parameters[name].device, copy=True), self._parameters[name])
            for name, mean in means.items()
        }

    def add(self, tick: int) -> None:
        """Take the weights after the step that began at this tick, if their turn has come."""
        share = self._config.average_from
        if share is None or (not self._means and tick / self._config.steps < share):
            return
        self._progress.averaged_steps += 1
        with torch.no_grad():
            if not self._means:
                self._means = {
                    name: weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
                    for name, weight in self._parameters.items()
                }
                return
            means = [self._own_part(mean) for mean in self._means.values()]
            weights = [self._own_part(self._parameters[name].detach()) for name in self._means]
            same_type = [weight.to(mean.dtype) for weight, mean in zip(weights, means, strict=True)]
            torch._foreach_lerp_(means, same_type, 1 / self._progress.averaged_steps)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs for the mean to go on; empty if it has not begun, or is in the model."""
        return {"average": self._means} if self._means else {}

    def finish(self) -> None:
        """Give the model the mean, if there is one; training must not go on with it."""
        if not self._means:
            return
        with torch.no_grad():
            for name, mean in self._means.items():
                self._own_part(self._parameters[name]).copy_(self._own_part(mean))
        self._means = {}
        self._progress.is_averaged = True
        self._progress.valid_step = None  # what was evaluated, and perhaps saved, were other weights

    def describe_absence(self) -> str | None:
        """Say why nothing was averaged, if something should have been."""
        share = self._config.average_from
        if share is None or self._progress.averaged_steps:
            return None
        return (
            f"nothing is averaged: no step began at {share:g} of the run (average_from) or later; the last evaluation "
            "and checkpoint are of the weights as they are"
        )
