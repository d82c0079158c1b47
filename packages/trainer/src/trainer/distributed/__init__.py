"""Processes of one run: which rank this is, messages between the ranks, and how they train one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.support.exports import lazy_exports

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

    from trainer.config import ParallelName
    from trainer.distributed.parallel import Parallel
    from trainer.distributed.processes import Processes

__getattr__, __dir__, __all__ = lazy_exports(__name__)
__all__ += ["parallelize"]


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
