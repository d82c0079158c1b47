"""The batches of a run: pure functions of the seed and their number, so that resuming needs no loader state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from trainer.config import TrainConfig
from trainer.data.sampling import make_windows
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
        split: The training split; each part must hold a window and the token after it, and each example fit in one.
        config: The settings of the run.
        rank: The rank of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If the windows of a step cannot be shared among so many processes, or documents are to be sampled
            and their separator is not known or does not occur.
    """

    def __init__(self, split: TokenSplit, config: TrainConfig, rank: int = 0, world_size: int = 1) -> None:
        self.world_size = world_size
        self.rows = _rows(config, world_size)
        """Windows in each batch of this process, the same in all steps."""
        self.has_ignored_targets = split.examples is not None
        """Whether some targets do not count."""
        self._rank = rank
        self._batch_size = config.batch_size
        self._windows = make_windows(split, config)

    def micro_steps(self, count: int) -> int:
        """Return how many batches this process reads in a step of `count` whole batches."""
        return count * self._batch_size // (self.world_size * self.rows)

    def batch(self, batches: StepBatches, micro_step: int) -> torch.Tensor:
        """Read one batch of this process.

        Args:
            batches: The batches of the step.
            micro_step: Number of the process's batch in this step, from 0 to below `micro_steps(batches.count)`.

        Returns:
            (2, rows, context_length) int64 on the CPU: the inputs, and the targets, which are the inputs' next
            tokens, or -100 where these do not count.
        """
        first = (self._rank * self.micro_steps(batches.count) + micro_step) * self.rows
        number, begin = divmod(first, self._batch_size)
        inputs, targets = self._windows.read(batches.first + number, slice(begin, begin + self.rows))
        return torch.stack((torch.from_numpy(inputs), torch.from_numpy(targets)))


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
