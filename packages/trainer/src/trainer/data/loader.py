"""Batches on their way to the device."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import torch

from trainer.data.batches import BatchSource, StepBatches
from trainer.devices.devices import SentTensor, Transfer

_Place: TypeAlias = tuple[StepBatches, int]
"""The batches of a step, and which of those that this process reads of them."""


class BatchLoader:
    """Gives the batches of one process on its device, and reads the next one while the device computes.

    A batch is a function of its place alone, so one that is not asked for after all does no harm.

    Args:
        source: where batches come from.
        device: where they go.
        rank: the number of this process.
        world_size: how many processes there are.
        ahead: whether a thread reads and copies the next batch meanwhile; None means on CUDA. Elsewhere the processor
            itself computes, and a thread gains nothing that could be measured.

    Raises:
        ValueError: the windows of a step cannot be divided among so many processes.
    """

    def __init__(
        self,
        source: BatchSource,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        *,
        ahead: bool | None = None,
    ) -> None:
        self._source = source
        self._rank = rank
        self.world_size = world_size
        self.rows = source.rows(world_size)
        """Windows in a batch."""
        self._transfer = Transfer(device)
        self._thread: ThreadPoolExecutor | None = None
        if device.type == "cuda" if ahead is None else ahead:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[_Place, Future[SentTensor]] | None = None

    def micro_steps(self, batches: StepBatches) -> int:
        """Return how many batches this process reads in a step."""
        return self._source.micro_steps(batches.count, self.world_size)

    def get(self, batches: StepBatches, micro_step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, both (rows, context_length) int64, without waiting for the device.

        Raises:
            OSError: a token file cannot be read any more.
        """
        if self._thread is None:
            inputs, targets = self._transfer.receive(self._read(batches, micro_step))
            return inputs, targets
        place, (coming, self._next) = (batches, micro_step), (self._next, None)
        if coming is None or coming[0] != place:
            coming = (place, self._thread.submit(self._read, *place))
        batch = coming[1].result()
        following = (batches, micro_step + 1)
        if micro_step + 1 == self.micro_steps(batches):  # the next step has as many, but where a ramp rises
            following = (StepBatches(batches.first + batches.count, batches.count), 0)
        self._next = (following, self._thread.submit(self._read, *following))
        inputs, targets = self._transfer.receive(batch)
        return inputs, targets

    def close(self) -> None:
        """Stop reading; closing twice is harmless."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._next = None

    def _read(self, batches: StepBatches, micro_step: int) -> SentTensor:
        return self._transfer.send(self._source.batch(batches, micro_step, self._rank, self.world_size))
