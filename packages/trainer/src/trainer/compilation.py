"""The loss under torch.compile, and what happens when it cannot be compiled or comes out wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.evaluation import LossFunction
from trainer.random_states import get_random_states, set_random_states

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}


class WrongResultError(RuntimeError):
    """The compiled loss is not the loss."""


def compile_loss(loss_fn: LossFunction, config: TrainConfig, device: torch.device) -> LossFunction | None:
    """Return the compiled loss function, or None if it is not wanted or cannot be compiled, which is warned about."""
    if config.compile == "off" or (config.compile == "auto" and device.type != "cuda"):
        return None
    try:
        # The whole loss, not only the module: a loss_fn may call any method of the model.
        return torch.compile(loss_fn, dynamic=False)
    except Exception as error:
        warn_about_compile(error)
        return None


def warn_about_compile(error: Exception) -> None:
    """Warn that training goes on without the compiler."""
    reason = str(error).strip().partition("\n")[0]
    kind = "" if isinstance(error, WrongResultError) else f"{type(error).__name__}: "
    warnings.warn(f"torch.compile failed ({kind}{reason}); training goes on without it", RuntimeWarning, stacklevel=3)


def check_compiled(compiled: float, eager: float | None, dtype: torch.dtype) -> None:
    """Compare the first compiled loss with what the same batch loses without the compiler.

    Compilers have made silent mistakes, such as losses that are nan on one kind of machine only.

    Args:
        compiled: the mean loss.
        eager: the same without the compiler; None if it cannot be known.
        dtype: what products are computed in.

    Raises:
        WrongResultError: they differ by more than rounding does.
    """
    if eager is None or not math.isfinite(eager):
        return
    if not abs(compiled - eager) <= _TOLERANCE[dtype] * max(1.0, abs(eager)):
        raise WrongResultError(f"its loss of the first batch is {compiled:g}, and {eager:g} without it")


@contextmanager
def leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Put random states and the model's buffers, such as running means, back to what they were."""
    states = get_random_states()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        set_random_states(states)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
