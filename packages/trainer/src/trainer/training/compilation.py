"""Loss and update under torch.compile, and the fall back to eager where the compiler fails or is wrong."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints import get_random_states, set_random_states
from trainer.config import TrainConfig
from trainer.devices import is_out_of_memory
from trainer.distributed import Parallel, Processes, optimizer_parts
from trainer.evaluation import LossFunction

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WrongResultError(RuntimeError):
    """The compiled loss differs from the eager loss, or the compiled update is not the same in all processes."""


def compile_loss(
    loss_fn: LossFunction, config: TrainConfig, device: torch.device, *, is_alone: bool
) -> LossFunction | None:
    """Return the compiled loss function; None if it is not wanted, or after a warning if it cannot be compiled."""
    if not _is_wanted(config, device):
        return None
    try:
        if not is_alone:
            # For DDP, Dynamo would split the graph at the borders of gradient buckets, to all-reduce them sooner. The
            # parts fuse less, and some versions refuse graphs with autograd functions, of which ours are full.
            from torch._dynamo import config as dynamo_config

            dynamo_config.optimize_ddp = False
        # The whole loss is compiled: a loss_fn may call any method of the model.
        return torch.compile(loss_fn, dynamic=False)
    except Exception as error:
        warn_about_compile(error)
        return None


def compile_update(parallel: Parallel, config: TrainConfig, *, schedules_decay: bool = False) -> CompiledUpdate | None:
    """Return the compiled update, or None if it is not wanted, not offered by the optimizer, or cannot be compiled.

    An optimizer offers it by a true `step_compiles`: torch.compile(optimizer.step) must make one program for all steps
    and for all rates and weight decays that are tensors of one number. Of a combined optimizer, which lists its parts
    as `optimizers`, the parts that offer it are compiled. Updates of sharded parameters are eager.
    """
    offered = any(getattr(part, "step_compiles", False) for part in optimizer_parts(parallel.optimizer))
    if not (_is_wanted(config, parallel.device) and offered) or parallel.is_sharded:
        return None
    try:
        return CompiledUpdate(parallel.optimizer, parallel.processes, schedules_decay=schedules_decay)
    except Exception as error:
        warn_about_compile(error)
        return None


class CompiledUpdate:
    """Step of an optimizer, compiled as one graph for each of its parts that offers it.

    Several processes, each of which has all parameters, stop using the compiler together: if it fails in one of them,
    or if the parameters differ after the first compiled step, which compilers on different machines might cause. All
    then go on from the parameters of rank 0.

    Args:
        optimizer: An optimizer, or a combined one.
        processes: Processes of the run.
        schedules_decay: Whether the weight decay changes from step to step, like the rate.

    Raises:
        Exception: Whatever torch.compile raises where it does not work at all.
    """

    def __init__(self, optimizer: Optimizer, processes: Processes, *, schedules_decay: bool = False) -> None:
        self._optimizer = optimizer
        self._scheduled = ("lr", "weight_decay") if schedules_decay else ("lr",)
        self._processes = processes
        self._parts = optimizer_parts(optimizer)
        self._steps: list[Callable[[], object] | None] = [
            torch.compile(part.step, fullgraph=True) if getattr(part, "step_compiles", False) else None
            for part in self._parts
        ]
        self._has_run = False

    def make(self) -> float:
        """Make the update, and return the seconds that compiling it has taken, its first run included.

        The very first update is eager: it creates the optimizer's state, which is another program. A step that raises
        could not be compiled and has changed nothing: it is made eagerly from now on, after a warning.
        """
        if not self._optimizer.state:
            self._optimizer.step()
            return 0.0
        began = time.perf_counter()
        for index, part in enumerate(self._parts):
            step = self._steps[index]
            if step is None:
                part.step()
            elif not self._make_compiled(part, step):
                self._steps[index] = None
        seconds = 0.0 if self._has_run else time.perf_counter() - began
        self._has_run = True
        return seconds

    def _make_compiled(self, part: Optimizer, step: Callable[[], object]) -> bool:
        """Make a compiled step, or an eager one if that fails; return whether it succeeded in all processes."""
        failure: Exception | None = None
        try:
            with _as_tensors(part, self._scheduled):
                step()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            failure = error
            part.step()
        failed = agree_on_failure(failure, self._processes)
        if not failed and not self._has_run and self._processes.are_several and not self._is_equal_everywhere(part):
            failed = agree_on_failure(WrongResultError("its first update differs between processes"), self._processes)
        if failed:
            states = [value for state in part.state.values() for value in state.values()]
            tensors = [*_parameters(part), *(value for value in states if isinstance(value, torch.Tensor))]
            self._processes.copy_from_rank_0(tensors)
        return not failed

    def _is_equal_everywhere(self, part: Optimizer) -> bool:
        """Compare the sums of the bits of all parameters, as integers, which do not round."""
        sums = [value.detach().contiguous().view(_INTEGERS[value.itemsize]).sum() for value in _parameters(part)]
        digest = float(sum(int(value) for value in torch.stack(sums).tolist()) % 2**52)
        return self._processes.maximum(digest) == -self._processes.maximum(-digest)


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def _as_tensors(optimizer: Optimizer, names: Sequence[str]) -> Iterator[None]:
    """Replace scheduled settings of the groups by tensors: a number would be a constant of the compiled program."""
    replaced = [(group, name, group[name]) for group in optimizer.param_groups for name in names if name in group]
    try:
        for group, name, value in replaced:
            group[name] = torch.tensor(value, dtype=torch.float64, device="cpu")
        yield
    finally:
        for group, name, value in replaced:
            group[name] = value


def _is_wanted(config: TrainConfig, device: torch.device) -> bool:
    return config.compile == "on" or (config.compile == "auto" and device.type == "cuda")


def agree_on_failure(failure: Exception | None, processes: Processes) -> bool:
    """Return whether the compiler has failed in any process, and warn where it has, and on rank 0."""
    failed = processes.maximum(float(failure is not None)) > 0
    if failed and (failure is not None or processes.is_rank_0):
        warn_about_compile(failure or RuntimeError("in another process"))
    return failed


def warn_about_compile(error: Exception) -> None:
    """Warn that training continues without the compiler."""
    reason = str(error).strip().partition("\n")[0]
    kind = "" if isinstance(error, WrongResultError) else f"{type(error).__name__}: "
    warnings.warn(f"torch.compile failed ({kind}{reason}); training continues without it", RuntimeWarning, stacklevel=3)


def check_compiled(compiled: float, eager: float | None, dtype: torch.dtype) -> None:
    """Compare the first compiled loss with the eager loss of the same batch.

    Compilers have made silent mistakes, such as losses that are nan on one kind of machine only.

    Args:
        compiled: Mean loss.
        eager: The same without the compiler; None if it cannot be known.
        dtype: Type of the matrix products.

    Raises:
        WrongResultError: If they differ by more than rounding errors.
    """
    if eager is None or not math.isfinite(eager):
        return
    if not abs(compiled - eager) <= _TOLERANCE[dtype] * max(1.0, abs(eager)):
        raise WrongResultError(f"its loss of the first batch is {compiled:g}, and {eager:g} without it")


@contextmanager
def leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Restore random states and the model's buffers, such as running means, at the end of the block."""
    states = get_random_states()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        set_random_states(states)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
