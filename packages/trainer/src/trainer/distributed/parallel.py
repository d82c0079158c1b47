"""How the processes of a run train one model: alone, each with a whole copy (DDP), or each with a part (FSDP2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from trainer.distributed.processes import Processes

if TYPE_CHECKING:
    from trainer.config import ParallelName

Result = TypeVar("Result")
_SHOWN_NAMES = 3


class CalledModule(nn.Module):
    """A model as a part of a module whose forward calls any function with it.

    Wrappers act in `forward` alone, but a loss function may call any method of a model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments)."""
        return function(self.model, *arguments)


class Parallel:
    """One process that trains the model by itself; and what the other ways have in common.

    Args:
        model: the caller's; it is moved to the device.
        optimizer: the caller's, over the model's parameters.
        processes: those of the run.
        device: of this process.
    """

    name: str | None = None
    is_sharded = False
    """Whether every use of the model needs all processes."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, processes: Processes, device: torch.device) -> None:
        self.model = model.to(device)
        """What loss functions and samples get."""
        self.optimizer = optimizer
        self.processes = processes
        self.device = device

    def describe(self) -> dict[str, Any]:
        """Return plain values for `environment.json`."""
        return {"processes": self.processes.world_size, "parallel": self.name}

    def start(self) -> None:
        """Make ready for training, after the state has been loaded."""

    def differentiate(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments), for a backward pass."""
        return self.call(function, *arguments)

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments), without a backward pass."""
        return function(self.model, *arguments)

    def accumulating(self, *, more_to_come: bool) -> AbstractContextManager[object]:
        """Return the context of a forward and backward pass, of which more may come before the next step."""
        return nullcontext()

    def check_gradients(self) -> None:
        """Check that the first backward pass of all has given what the processes exchange.

        Raises:
            ValueError: a trainable parameter has no gradient.
        """

    def norm(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return the L2 norm of several tensors together, as a scalar on the device."""
        return nn.utils.get_total_norm(list(tensors)).to(self.device)

    def own_part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the part of a parameter, or of what is divided like one, that is in this process; it is no copy."""
        return tensor

    def synchronize_buffers(self) -> None:
        """Give all processes the writer's buffers, which each of them updates by its own batches in training."""
        if self.processes.are_several:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, src=0)

    def finish(self) -> None:
        """Give the caller's model the trained weights, wherever they are."""

    def close(self) -> None:
        """Let go of what must not outlive the process group."""


class DataParallel(Parallel):
    """Each process has the whole model and a part of every batch; gradients are averaged while they are computed.

    DDP gets the loss function as part of its module: whatever methods of the model it calls, DDP sees one forward and
    overlaps its exchange of gradients with the backward pass, which an exchange afterwards could not.
    """

    name = "ddp"
    _wrapped: nn.parallel.DistributedDataParallel

    def start(self) -> None:
        """Wrap the model, which gets the writer's weights."""
        # Buffers are synchronized before evaluations and saves; in each forward pass that would cost time.
        names = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        options: dict[str, Any] = {buffers: False, "gradient_as_bucket_view": True}
        self._wrapped = nn.parallel.DistributedDataParallel(CalledModule(self.model), **options)
        self._has_gradients = False

    def differentiate(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments), for a backward pass that exchanges gradients."""
        result: Result = self._wrapped(function, *arguments)
        return result

    def accumulating(self, *, more_to_come: bool) -> AbstractContextManager[object]:
        """Exchange gradients in the last backward pass of a step only."""
        return self._wrapped.no_sync() if more_to_come else nullcontext()

    def close(self) -> None:
        """Free DDP's reducer.

        If the garbage collector finds it later, it is the last to hold the process group, whose end then waits for a
        thread that waits for the interpreter's lock: seen as a deadlock with torch 2.13 and gloo.
        """
        if hasattr(self, "_wrapped"):
            self._wrapped.logger = None
            self._wrapped.reducer = None  # type: ignore[assignment, unused-ignore]

    def check_gradients(self) -> None:
        """Check that every trainable parameter has a gradient; DDP would wait for those that have none."""
        if not self._has_gradients:
            check_gradients(self.model)
            self._has_gradients = True


def check_gradients(model: nn.Module) -> None:
    """Check that every trainable parameter has a gradient.

    Raises:
        ValueError: one has none.
    """
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    if idle:
        shown = ", ".join(idle[:_SHOWN_NAMES]) + (", …" if len(idle) > _SHOWN_NAMES else "")
        raise ValueError(
            f"{shown} ({len(idle)} in all) got no gradient: with several processes expected one for each trainable "
            "parameter; use them in the loss, or call requires_grad_(False) on them"
        )


def parallelize(
    model: nn.Module, optimizer: Optimizer, name: ParallelName, processes: Processes, device: torch.device
) -> Parallel:
    """Return the way to train a model that the configuration and the number of processes ask for.

    Raises:
        ValueError: the model or the optimizer cannot be trained in this way.
    """
    if not processes.are_several:
        return Parallel(model, optimizer, processes, device)
    if name == "fsdp":
        from trainer.distributed.fsdp import ShardedParallel

        return ShardedParallel(model, optimizer, processes, device)
    return DataParallel(model, optimizer, processes, device)
