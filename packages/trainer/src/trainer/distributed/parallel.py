"""Training of one model by one process, or by several that hold a whole copy each (DDP)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from trainer.distributed.processes import Processes

Result = TypeVar("Result")
_SHOWN_NAMES = 3


class CalledModule(nn.Module):
    """A module whose forward calls any function with a model.

    Wrappers act in `forward` alone, but a loss function may call any method of a model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments)."""
        return function(self.model, *arguments)


class Parallel:
    """Training by one process; base class of the other ways.

    Args:
        model: The caller's model; it is moved to the device.
        optimizer: The caller's optimizer over the model's parameters.
        processes: Processes of the run.
        device: Device of this process.
    """

    name: str | None = None
    is_sharded = False
    """Whether every use of the model needs all processes."""
    _has_gradients = False

    def __init__(self, model: nn.Module, optimizer: Optimizer, processes: Processes, device: torch.device) -> None:
        self.model = model.to(device)
        """The model that loss functions and samples get."""
        self.optimizer = optimizer
        self.processes = processes
        self.device = device

    def start(self) -> None:
        """Prepare for training, after the state has been loaded."""

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
        """Check that the first backward pass has given all gradients, for which several processes would wait.

        Raises:
            ValueError: If a trainable parameter has no gradient.
        """
        if self.processes.are_several and not self._has_gradients:
            check_gradients(self.model)
            self._has_gradients = True

    def norm(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return the L2 norm of several tensors together, as a scalar on the device."""
        # Of a sparse gradient, such as that of an embedding table, its numbers, with every row once.
        numbers = [tensor.coalesce().values() if tensor.is_sparse else tensor for tensor in tensors]
        return nn.utils.get_total_norm(numbers).to(self.device)

    def own_part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the shard that this process holds of a parameter, or of a tensor sharded like one; it is no copy."""
        return tensor

    def gather(self, state: Any) -> Any:
        """Return a nested state with whole tensors, which only rank 0 is sure to get; all processes must call this."""
        return state

    def shard_like(self, parameter: torch.Tensor, value: Any) -> Any:
        """Return a whole tensor, which every process has, sharded like a parameter if it is."""
        return value

    def synchronize_buffers(self) -> None:
        """Give all processes the buffers of rank 0, since each updates its own by its own batches in training."""
        if self.processes.are_several:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, src=0)

    def finish(self) -> None:
        """Give the caller's model the trained weights."""

    def close(self) -> None:
        """Release what must not outlive the process group."""
        if self.processes.are_several:
            share_updates(self.optimizer, None)


class DataParallel(Parallel):
    """Each process has the whole model and a share of every batch; gradients are averaged while they are computed.

    DDP wraps a module that calls the loss function: whatever methods of the model the loss calls, DDP sees one forward
    and overlaps its all-reduce with the backward pass.
    """

    name = "ddp"
    _wrapped: nn.parallel.DistributedDataParallel

    def __init__(self, model: nn.Module, optimizer: Optimizer, processes: Processes, device: torch.device) -> None:
        super().__init__(model, optimizer, processes, device)
        share_updates(optimizer, dist.group.WORLD)

    def start(self) -> None:
        """Wrap the model, which gets the weights of rank 0."""
        # Buffers are synchronized before evaluations; in each forward pass that would cost time.
        names = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        options: dict[str, Any] = {buffers: False, "gradient_as_bucket_view": True}
        self._wrapped = nn.parallel.DistributedDataParallel(CalledModule(self.model), **options)

    def differentiate(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments), for a backward pass that exchanges gradients."""
        result: Result = self._wrapped(function, *arguments)
        return result

    def accumulating(self, *, more_to_come: bool) -> AbstractContextManager[object]:
        """Exchange gradients in the last backward pass of a step only."""
        return self._wrapped.no_sync() if more_to_come else nullcontext()

    def close(self) -> None:
        """Free DDP's reducer.

        A reducer that the garbage collector finds later is the last to hold the process group, whose end then waits for
        a thread that waits for the interpreter's lock: a deadlock seen with torch 2.13 and gloo.
        """
        super().close()
        if hasattr(self, "_wrapped"):
            self._wrapped.logger = None
            self._wrapped.reducer = None  # type: ignore[assignment, unused-ignore]


def optimizer_parts(optimizer: Optimizer) -> Sequence[Optimizer]:
    """Return the optimizers that a combined one lists as `optimizers`, or the optimizer itself."""
    parts: Sequence[Optimizer] = getattr(optimizer, "optimizers", (optimizer,))
    return parts


def share_updates(optimizer: Optimizer, group: dist.ProcessGroup | None) -> None:
    """Let the processes of a group share the work of updates, where an optimizer offers it by `share_among(group)`.

    None ends this: a process that makes a step alone would wait for the others.
    """
    for part in optimizer_parts(optimizer):
        share: Callable[[dist.ProcessGroup | None], None] | None = getattr(part, "share_among", None)
        if share is not None:
            share(group)


def check_gradients(model: nn.Module) -> None:
    """Check that every trainable parameter has a gradient.

    Raises:
        ValueError: If one has none.
    """
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    if idle:
        shown = ", ".join(idle[:_SHOWN_NAMES]) + (", …" if len(idle) > _SHOWN_NAMES else "")
        raise ValueError(
            f"{shown} ({len(idle)} in all) got no gradient: with several processes expected one for each trainable "
            "parameter; use them in the loss, or call requires_grad_(False) on them"
        )
