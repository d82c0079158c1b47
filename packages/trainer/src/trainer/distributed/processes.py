"""Messages between the processes of one run, as `torchrun` starts them."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainer.distributed.rank import Ranks

if dist.is_available():
    from torch.distributed.distributed_c10d import PrefixStore, Store
    from torch.distributed.rendezvous import rendezvous

Result = TypeVar("Result")
_LOST_WORDS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "peer")
_groups_made = itertools.count()


class ProcessLostError(RuntimeError):
    """Another process of the run has died or does not answer; the same command resumes from the last checkpoint."""


class Processes:
    """Collective operations of a run; all processes call each of them, and in one process they cost nothing.

    Messages between hosts use gloo, whatever the tensors of the model use, so that no device is waited for.
    """

    def __init__(self, ranks: Ranks | None = None, messages: dist.ProcessGroup | None = None) -> None:
        ranks = ranks or Ranks()
        self.rank = ranks.rank
        self.world_size = ranks.world_size
        self.messages = messages
        """The process group for tensors on the CPU; None in one process."""

    @property
    def is_rank_0(self) -> bool:
        """True on rank 0, which writes the records and checkpoints."""
        return self.rank == 0

    @property
    def are_several(self) -> bool:
        """True if there are other processes."""
        return self.world_size > 1

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean over the processes of a tensor on the run's device, without the host waiting for it."""
        return self.sum(value) / self.world_size if self.are_several else value

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes of a tensor on the run's device; `value` stays as it is."""
        if not self.are_several:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value

    def maximum(self, value: float) -> float:
        """Return the largest of the processes' numbers."""
        if not self.are_several:
            return value
        message = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(message, dist.ReduceOp.MAX, group=self.messages)
        return message.item()

    def broadcast(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the numbers of rank 0 in all processes; faster than `on_rank_0`."""
        if not self.are_several:
            return tuple(values)
        message = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(message, src=0, group=self.messages)
        return tuple(message.tolist())

    def copy_from_rank_0(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give tensors, of any device, the values that they have on rank 0."""
        for tensor in tensors if self.are_several else ():
            message = tensor.detach().contiguous()
            dist.broadcast(message, src=0, group=self.messages if tensor.device.type == "cpu" else None)
            tensor.detach().copy_(message)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.maximum(0.0)

    def on_rank_0(self, action: Callable[[], Result]) -> Result:
        """Call a function on rank 0 alone, and return its result everywhere, or raise its exception everywhere.

        The result must be picklable, and so small that copies do not matter.
        """
        if not self.are_several:
            return action()
        failure: Exception | None = None
        message: list[Any] = [None, None]
        if self.is_rank_0:
            try:
                message[0] = action()
            except Exception as error:
                failure, message[1] = error, _picklable(error)
        dist.broadcast_object_list(message, src=0, group=self.messages, device=torch.device("cpu"))
        if failure is not None:
            raise failure
        if message[1] is not None:
            raise message[1]
        result: Result = message[0]
        return result

    def gather(self, value: Any) -> list[Any]:
        """Return the picklable values of all processes on rank 0, in their order, and an empty list elsewhere."""
        if not self.are_several:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_rank_0 else None
        dist.gather_object(value, values, dst=0, group=self.messages)
        return values or []


@contextmanager
def joined_processes(ranks: Ranks, device: torch.device, timeout_seconds: float) -> Iterator[Processes]:
    """Connect the processes of a run for the time of the block; a process group that exists already is used and stays.

    A GPU becomes the current device of the process, where kernels run and random numbers are drawn.

    Args:
        ranks: Ranks of this process.
        device: Device of the model, which decides on nccl (CUDA) or gloo.
        timeout_seconds: Seconds that a process waits for the others before it gives up.

    Raises:
        ProcessLostError: If another process died or did not answer, now or within the block.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if ranks.world_size == 1:
        yield Processes(ranks)
        return
    was_there = dist.is_initialized()
    try:
        yield _connect(ranks, device, timeout_seconds)
    except RuntimeError as error:
        if _is_loss(error):
            raise ProcessLostError(_explain(error, ranks)) from error
        raise
    finally:
        if not was_there and dist.is_initialized():
            dist.destroy_process_group()


def _connect(ranks: Ranks, device: torch.device, timeout_seconds: float) -> Processes:
    timeout = timedelta(seconds=timeout_seconds)
    if not dist.is_initialized():
        # A prefix of its own: the keys of an earlier group must not be found.
        store = PrefixStore(f"trainer-{next(_groups_made)}", _rendezvous())
        store.set_timeout(timeout)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.world_size, timeout=timeout)
    if "cpu:" in dist.get_backend_config():
        return Processes(ranks, dist.group.WORLD)
    return Processes(ranks, dist.new_group(backend="gloo", timeout=timeout))


@cache
def _rendezvous() -> Store:
    """Return the store that `torchrun` announces; cached, because a second one could not bind its port."""
    store, _, _ = next(rendezvous("env://"))
    return store


def _is_loss(error: RuntimeError) -> bool:
    """Return whether an error of torch is about a lost connection, by its words: types differ between versions."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return type(error) is RuntimeError and sum(word in text for word in _LOST_WORDS) >= 2


def _explain(error: RuntimeError, ranks: Ranks) -> str:
    # Without the position in torch's sources, and the advice after the first sentence.
    reason = re.sub(r"^\[\S+\] ", "", str(error).strip().partition("\n")[0]).partition(". ")[0]
    return (
        f"process {ranks.rank} of {ranks.world_size} lost another one, which died or did not answer ({reason}); "
        "what was saved is intact: run the same command again, with as many processes or another number, to resume"
    )


def _picklable(error: Exception) -> Exception:
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
        return copy
    except Exception:
        return RuntimeError(f"process 0 failed: {type(error).__name__}: {error}")
