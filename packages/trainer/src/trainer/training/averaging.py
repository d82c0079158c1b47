"""Running average of the weights over the tail of training."""

from __future__ import annotations

from typing import Any

import torch

from trainer.checkpoints import get_parameters
from trainer.config import TrainConfig
from trainer.distributed import Parallel


class WeightAverage:
    """Running mean of the weights after each step of a run's tail, equal or exponential; buffers are not averaged.

    Stochastic weight averaging (Izmailov et al. 2018), of every step as in tail averaging (Jain et al. 2018) instead of
    once an epoch, and beside training as in latest weight averaging (Kaddour 2022). An exponential moving average
    (Polyak and Juditsky 1992) begins as an equal mean, so that it is not biased towards the first weights. The mean is
    kept on the device, in float32 at least; with FSDP each process keeps its shard.

    Args:
        parallel: Holds the parameters, sharded already.
        config: Gives the share of the run from which weights are averaged, and the decay.
    """

    def __init__(self, parallel: Parallel, config: TrainConfig) -> None:
        self._parallel = parallel
        self._config = config
        self._parameters = get_parameters(parallel.model)
        self._means: dict[str, torch.Tensor] = {}
        self.steps = 0
        """Steps whose weights are in the mean."""
        self.is_finished = False
        """Whether the model has been given the mean; training is over then, unless the run has more steps now."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint; no means before the first step or after `finish`."""
        return {"steps": self.steps, "is_finished": self.is_finished, "means": dict(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, with whole tensors on any device."""
        self.steps, self.is_finished = state["steps"], state["is_finished"]
        self._means = {
            name: self._parallel.shard_like(self._parameters[name], mean.to(self._parameters[name].device, copy=True))
            for name, mean in state["means"].items()
        }

    def add(self, tick: int) -> None:
        """Add the weights after the step that began at this tick, if it is in the tail."""
        share = self._config.average_from
        if share is None or (not self._means and tick / self._config.steps < share):
            return
        self.steps += 1
        own_part = self._parallel.own_part
        with torch.no_grad():
            if not self._means:
                self._means = {
                    name: weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
                    for name, weight in self._parameters.items()
                }
                return
            means = [own_part(mean) for mean in self._means.values()]
            weights = [own_part(self._parameters[name].detach()) for name in self._means]
            same_type = [weight.to(mean.dtype) for weight, mean in zip(weights, means, strict=True)]
            decay = self._config.average_decay
            torch._foreach_lerp_(means, same_type, max(1 / self.steps, 0.0 if decay is None else 1 - decay))

    def finish(self) -> bool:
        """Copy the mean into the model, and return whether there was one; training goes on only after `restart`."""
        if not self._means:
            return False
        own_part = self._parallel.own_part
        with torch.no_grad():
            for name, mean in self._means.items():
                own_part(self._parameters[name]).copy_(own_part(mean))
        self._means = {}
        self.is_finished = True
        return True

    def restart(self) -> None:
        """Begin a new mean, where training goes on after `finish`."""
        self.steps, self.is_finished = 0, False

    def describe_absence(self) -> str | None:
        """Return why nothing was averaged, if something should have been."""
        share = self._config.average_from
        if share is None or self.steps:
            return None
        return (
            f"nothing is averaged: no step began at {share:g} of the run (average_from) or later; the last evaluation "
            "and checkpoint are of the weights as they are"
        )
