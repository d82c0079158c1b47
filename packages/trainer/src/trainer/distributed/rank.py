"""Rank of this process in its run, and its device."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from trainer.devices import resolve_device


@dataclass(frozen=True)
class Ranks:
    """Ranks of a process, in its run and on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Rank among the processes of this machine; also the index of the GPU that the process uses."""


def read_ranks() -> Ranks:
    """Return the ranks of this process: from `torch.distributed` if it is initialized, else from `torchrun`.

    Raises:
        ValueError: If the environment variables of `torchrun` are incomplete or contradict each other.
    """
    if dist.is_available() and dist.is_initialized():
        rank = dist.get_rank()
        return Ranks(rank, dist.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)))
    texts = {name: os.environ.get(name, "0" if "RANK" in name else "1") for name in ("RANK", "WORLD_SIZE")}
    texts["LOCAL_RANK"] = os.environ.get("LOCAL_RANK", texts["RANK"])
    try:
        rank, world_size, local_rank = (int(texts[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if not (0 <= rank < world_size and local_rank >= 0):
            raise ValueError
    except ValueError:
        shown = ", ".join(f"{name}={text!r}" for name, text in texts.items())
        raise ValueError(
            f"the environment says {shown}: expected whole numbers with RANK below WORLD_SIZE; start the script "
            "with torchrun, or unset them"
        ) from None
    if world_size > 1 and "MASTER_ADDR" not in os.environ:
        raise ValueError(f"WORLD_SIZE is {world_size}, but MASTER_ADDR is not set: start the script with torchrun")
    return Ranks(rank, world_size, local_rank)


def resolve_process_device(name: str, ranks: Ranks) -> torch.device:
    """Return the device of a process. Several processes on GPUs use one GPU each.

    Args:
        name: As for `resolve_device`. Several processes allow only "cpu", "cuda" and "auto", which prefers "cuda".
        ranks: Ranks of the process.

    Raises:
        ValueError: If the device is not available, or several processes cannot share it.
    """
    if ranks.world_size == 1:
        return resolve_device(name)
    if name == "auto":
        name = "cuda" if resolve_device("auto").type == "cuda" else "cpu"
    device = resolve_device(name)
    if device.type not in ("cpu", "cuda") or device.index is not None:
        raise ValueError(f"device is {name!r} for {ranks.world_size} processes: expected auto, cpu or cuda")
    if device.type == "cpu":
        return device
    if ranks.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"this is process {ranks.local_rank + 1} of this machine, which has {torch.cuda.device_count()} GPU(s): "
            "start at most as many with torchrun --nproc-per-node"
        )
    return torch.device("cuda", ranks.local_rank)
