"""Batches on their way to the device."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import torch

from trainer.data.batches import BatchSource, StepBatches
from trainer.devices import SentTensor, Transfer

_Key: TypeAlias = tuple[StepBatches, int]
"""The batches of a step, and the number of the process's batch in the step."""


class BatchLoader:
    """Loads the batches of one process onto its device, and reads the next one while the device computes.

    A batch is a function of its key alone, so that a batch read ahead in vain does no harm.

    Args:
        source: The batches of this process.
        device: Where they go.
        ahead: Read and copy the next batch in a thread; None does so on CUDA. Elsewhere the processor itself computes,
            and a thread gains nothing that could be measured.
    """

    def __init__(self, source: BatchSource, device: torch.device, *, ahead: bool | None = None) -> None:
        self._source = source
        self.world_size = source.world_size
        self.rows = source.rows
        """Windows in a batch."""
        self.has_ignored_targets = source.has_ignored_targets
        """Whether some targets do not count."""
        self._transfer = Transfer(device)
        self._thread: ThreadPoolExecutor | None = None
        if device.type == "cuda" if ahead is None else ahead:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[_Key, Future[SentTensor]] | None = None

    def micro_steps(self, batches: StepBatches) -> int:
        """Return how many batches this process reads in a step."""
        return self._source.micro_steps(batches.count)

    def get(self, batches: StepBatches, micro_step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, both (rows, context_length) int64, without waiting for the device.

        Raises:
            OSError: If a token file cannot be read any more.
        """
        if self._thread is None:
            inputs, targets = self._transfer.receive(self._read(batches, micro_step))
            return inputs, targets
        key, (coming, self._next) = (batches, micro_step), (self._next, None)
        if coming is None or coming[0] != key:
            coming = (key, self._thread.submit(self._read, *key))
        batch = coming[1].result()
        following = (batches, micro_step + 1)
        if micro_step + 1 == self.micro_steps(batches):  # the next step has as many, except where a ramp rises
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
        return self._transfer.send(self._source.batch(batches, micro_step))
