"""Loss and update under torch.compile, and what happens when they cannot be compiled or come out wrong."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints.random_states import get_random_states, set_random_states
from trainer.config import TrainConfig
from trainer.devices.devices import is_out_of_memory
from trainer.evaluation import LossFunction

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}


class WrongResultError(RuntimeError):
    """The compiled loss is not the loss."""


def compile_loss(
    loss_fn: LossFunction, config: TrainConfig, device: torch.device, *, is_alone: bool
) -> LossFunction | None:
    """Return the compiled loss function, or None if it is not wanted or cannot be compiled, which is warned about."""
    if not _is_wanted(config, device):
        return None
    try:
        if not is_alone:
            # For DDP, Dynamo would cut the graph where buckets of gradients end, to exchange them sooner; the pieces
            # fuse less, and versions of it refuse graphs with autograd functions, which ours are full of.
            from torch._dynamo import config as dynamo_config

            dynamo_config.optimize_ddp = False
        # The whole loss, not only the module: a loss_fn may call any method of the model.
        return torch.compile(loss_fn, dynamic=False)
    except Exception as error:
        warn_about_compile(error)
        return None


def compile_update(
    optimizer: Optimizer, config: TrainConfig, device: torch.device, *, is_alone: bool
) -> CompiledUpdate | None:
    """Return the compiled update, or None if it is not wanted, not offered by the optimizer, or cannot be compiled.

    An optimizer offers it by a true `step_compiles`: torch.compile(optimizer.step) is to make one program for all steps
    and for all rates that are tensors of one number. One that is made of others has them as `optimizers`. Several
    processes make their updates plainly: what each compiled might round in its own way, and their models drift apart.
    """
    offered = all(getattr(part, "step_compiles", False) for part in _parts(optimizer))
    if not (_is_wanted(config, device) and is_alone and offered):
        return None
    try:
        return CompiledUpdate(optimizer)
    except Exception as error:
        warn_about_compile(error)
        return None


class CompiledUpdate:
    """Makes the steps of an optimizer, or of each of which it is made, compiled as one graph.

    Raises:
        Exception: whatever torch.compile raises where it does not work at all.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._parts = _parts(optimizer)
        self._steps: list[Callable[[], object] | None] = [
            torch.compile(part.step, fullgraph=True) for part in self._parts
        ]
        self._has_run = False

    def make(self) -> float:
        """Make the update, and return the seconds that compiling it has taken, its first run included.

        The first of all updates is made plainly: it makes the state, which is another program. A step that fails is one
        that could not be compiled, so nothing of it is done: it is made plainly, from now on, after a warning.
        """
        if not self._optimizer.state:
            self._optimizer.step()
            return 0.0
        began = time.perf_counter()
        for index, part in enumerate(self._parts):
            step = self._steps[index]
            if step is not None:
                try:
                    with _rates_as_tensors(part):
                        step()
                    continue
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    warn_about_compile(error)
                    self._steps[index] = None
            part.step()
        seconds = 0.0 if self._has_run else time.perf_counter() - began
        self._has_run = True
        return seconds


def _parts(optimizer: Optimizer) -> Sequence[Optimizer]:
    """Return the optimizers that one is made of, or itself alone."""
    parts: Sequence[Optimizer] = getattr(optimizer, "optimizers", (optimizer,))
    return parts


@contextmanager
def _rates_as_tensors(optimizer: Optimizer) -> Iterator[None]:
    """Let rates be tensors: a number would be a constant of the program."""
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = torch.tensor(rate, dtype=torch.float64, device="cpu")
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def _is_wanted(config: TrainConfig, device: torch.device) -> bool:
    return config.compile == "on" or (config.compile == "auto" and device.type == "cuda")


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
