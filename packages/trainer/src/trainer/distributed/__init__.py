"""Processes of one run: which rank this is, messages between the ranks, and how they train one model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

    from trainer.config import ParallelName
    from trainer.distributed.parallel import Parallel
    from trainer.distributed.processes import Processes, ProcessLostError, joined_processes
    from trainer.distributed.rank import find_place, resolve_process_device

_MODULE_OF = {
    "Parallel": "parallel",
    "ProcessLostError": "processes",
    "Processes": "processes",
    "find_place": "rank",
    "joined_processes": "processes",
    "resolve_process_device": "rank",
}
__all__ = [
    "Parallel",
    "ProcessLostError",
    "Processes",
    "find_place",
    "joined_processes",
    "parallelize",
    "resolve_process_device",
]


def parallelize(
    model: nn.Module, optimizer: Optimizer, name: ParallelName, processes: Processes, device: torch.device
) -> Parallel:
    """Return the way to train a model that the configuration and the number of processes ask for.

    Raises:
        ValueError: If the model or the optimizer cannot be trained in this way.
    """
    from trainer.distributed.parallel import DataParallel, Parallel

    if not processes.are_several:
        return Parallel(model, optimizer, processes, device)
    if name == "fsdp":
        from trainer.distributed.fsdp import ShardedParallel

        return ShardedParallel(model, optimizer, processes, device)
    return DataParallel(model, optimizer, processes, device)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
