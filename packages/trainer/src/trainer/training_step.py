"""One optimizer step: batches, gradients, clipping, update."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.config import TrainConfig
from trainer.data import TokenArray, batch_generator, get_batch
from trainer.devices import autocast
from trainer.evaluation import LossFunction
from trainer.random_states import get_random_states, set_random_states

Schedule = Callable[[int], float]
"""schedule(step) -> learning rate."""


class TrainingStep:
    """Computes gradients and applies them; which batches it reads depends on the seed and the step alone."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFunction,
        tokens: TokenArray,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._loss_fn = loss_fn
        self._tokens = tokens
        self._config = config
        self._device = device
        self._dtype = dtype
        self._compiled: LossFunction | None = None
        if config.compile == "on" or (config.compile == "auto" and device.type == "cuda"):
            self._compiled = self._compile()
        self._compiled_works = False

    def compute_gradients(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill the gradients with those of the mean loss over the step's batches.

        Args:
            step: the number of the step, from 0.

        Returns:
            The loss and the gradients' global L2 norm before clipping, both scalars on the device.
        """
        self._optimizer.zero_grad(set_to_none=True)
        config = self._config
        total: torch.Tensor | None = None
        for micro_step in range(config.grad_accumulation_steps):
            generator = batch_generator(config.seed, step, micro_step)
            inputs, targets = get_batch(
                self._tokens, config.batch_size, config.context_length, self._device, generator=generator
            )
            loss = self._accumulate(inputs, targets)
            total = loss if total is None else total + loss
        assert total is not None
        return total, self._clip()

    def apply(self, learning_rate: float) -> None:
        """Make the update; a group with an `lr_scale` gets that multiple of the learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        self._optimizer.step()

    def _accumulate(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self._compiled is None:
            return self._backward(self._loss_fn, inputs, targets)
        if self._compiled_works:
            return self._backward(self._compiled, inputs, targets)
        states = get_random_states()
        try:
            loss = self._backward(self._compiled, inputs, targets)
        except Exception as error:
            self._compiled = None
            _warn_about_compile(error)
            set_random_states(states)
            self._optimizer.zero_grad(set_to_none=True)  # it was the first batch of all
            return self._backward(self._loss_fn, inputs, targets)
        self._compiled_works = True
        return loss

    def _backward(self, loss_fn: LossFunction, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with autocast(self._device, self._dtype):
            loss = loss_fn(self._model, inputs, targets)
        if loss.dim() != 0:
            raise ValueError(
                f"loss_fn returned the shape {tuple(loss.shape)}: expected a scalar, the mean over the batch"
            )
        loss = loss / self._config.grad_accumulation_steps
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss.detach()

    def _clip(self) -> torch.Tensor:
        parameters = [
            parameter
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters]).to(self._device)
        if self._config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._config.max_grad_norm, norm)
        return norm

    def _compile(self) -> LossFunction | None:
        try:
            # The whole loss, not only the module: a loss_fn may call any method of the model.
            return torch.compile(self._loss_fn, dynamic=False)
        except Exception as error:
            _warn_about_compile(error)
            return None


def learning_rate_at(schedule: Schedule, tick: int) -> float:
    """Ask a schedule for the learning rate.

    Raises:
        ValueError: it is no finite number of at least 0.
    """
    rate = float(schedule(tick))
    if not 0 <= rate < math.inf:
        raise ValueError(f"schedule({tick}) is {rate!r}: expected a finite learning rate, 0 or more")
    return rate


def _warn_about_compile(error: Exception) -> None:
    reason = str(error).strip().partition("\n")[0]
    warnings.warn(
        f"torch.compile failed ({type(error).__name__}: {reason}); training goes on without it",
        RuntimeWarning,
        stacklevel=3,
    )
