"""The batches of a run: pure functions of the seed and their number, so that resuming needs no loader state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from trainer.config import TrainConfig
from trainer.data.sampling import RandomWindows, ShuffledWindows
from trainer.data.splits import TokenSplit


@dataclass(frozen=True)
class StepBatches:
    """The batches that all processes together read in a step."""

    first: int
    """Batches that earlier steps have read."""
    count: int
    """Batches of this step: its grad_accumulation_steps."""


class BatchSource:
    """Reads the training batches of one process of a run.

    A step has `batch_size` windows in each of its batches, for any number of processes. Each process gets the same
    number of adjacent windows: whole batches if there are enough in every stage of a batch ramp, otherwise equal shares
    of batches. Therefore the mean over all processes of their mean losses is the mean loss of the step.

    Args:
        split: The training split; each part must hold a window and the token after it.
        config: The settings of the run.
        rank: The rank of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If the windows of a step cannot be shared among so many processes.
    """

    def __init__(self, split: TokenSplit, config: TrainConfig, rank: int = 0, world_size: int = 1) -> None:
        self.world_size = world_size
        self.rows = _rows(config, world_size)
        """Windows in each batch of this process, the same in all steps."""
        self._split = split
        self._rank = rank
        self._context_length, self._batch_size = config.context_length, config.batch_size
        lengths, length, rows = split.lengths, config.context_length, config.batch_size
        self._windows = (
            ShuffledWindows(lengths, length, rows, config.seed)
            if config.sampling == "shuffled"
            else RandomWindows(lengths, length, rows, config.grad_accumulation_steps, config.seed)
        )

    def micro_steps(self, count: int) -> int:
        """Return how many batches this process reads in a step of `count` whole batches."""
        return count * self._batch_size // (self.world_size * self.rows)

    def batch(self, batches: StepBatches, micro_step: int) -> torch.Tensor:
        """Read one batch of this process.

        Args:
            batches: The batches of the step.
            micro_step: Number of the process's batch in this step, from 0 to below `micro_steps(batches.count)`.

        Returns:
            (2, rows, context_length) int64 on the CPU: the inputs, and the targets, which are the inputs' next tokens.
        """
        first = (self._rank * self.micro_steps(batches.count) + micro_step) * self.rows
        number, begin = divmod(first, self._batch_size)
        parts, starts = self._windows.locate(batches.first + number)
        chosen = slice(begin, begin + self.rows)
        windows = torch.from_numpy(self._split.gather(parts[chosen], starts[chosen], self._context_length + 1))
        return torch.stack((windows[:, :-1], windows[:, 1:]))


def _rows(config: TrainConfig, world_size: int) -> int:
    parts = 1
    for count in config.accumulations:
        shares = world_size // math.gcd(count, world_size)
        if config.batch_size % shares:
            counts = "numbers of the batch_ramp" if config.batch_ramp else "grad_accumulation_steps"
            raise ValueError(
                f"{world_size} processes cannot share a step of {count} x {config.batch_size} windows: expected a "
                f"batch_size that is a multiple of {shares}, or {counts} that are a multiple of {world_size}"
            )
        parts = math.lcm(parts, shares)
    return config.batch_size // parts
