"""The batches of a run: pure functions of the seed and their number, so that resuming needs no loader state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from trainer.config import TrainConfig
from trainer.data.sampling import RandomWindows, ShuffledWindows, Windows
from trainer.data.splits import TokenSplit


@dataclass(frozen=True)
class StepBatches:
    """Which batches a step reads, of all processes together."""

    first: int
    """How many batches the steps before have read."""
    count: int
    """How many it reads: its grad_accumulation_steps."""


class BatchSource:
    """Reads the training batches of a run, for one process or for several that share them.

    A step has `batch_size` windows in each of its batches, the same for any number of processes. Each process gets as
    many of them, side by side: whole batches as long as there are enough of them, in every stage of a batch ramp, else
    equal parts of them. So the mean over all processes of their mean losses is the mean loss of the step.

    Args:
        split: the training split; each part must hold a window and the token after it.
        config: the settings of the run.
    """

    def __init__(self, split: TokenSplit, config: TrainConfig) -> None:
        self._split = split
        self._config = config
        lengths, length, rows = split.lengths, config.context_length, config.batch_size
        self._windows: Windows = RandomWindows(lengths, length, rows, config.grad_accumulation_steps, config.seed)
        if config.sampling == "shuffled":
            self._windows = ShuffledWindows(lengths, length, rows, config.seed)

    def micro_steps(self, count: int, world_size: int = 1) -> int:
        """Return how many batches each of `world_size` processes reads in a step of `count` whole batches."""
        return count * self._config.batch_size // (world_size * self.rows(world_size))

    def rows(self, world_size: int = 1) -> int:
        """Return how many windows each of these batches has, which is the same in all steps.

        Raises:
            ValueError: the windows of a step cannot be divided like this.
        """
        config, parts = self._config, 1
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

    def batch(self, batches: StepBatches, micro_step: int, rank: int = 0, world_size: int = 1) -> torch.Tensor:
        """Read one batch of one process.

        Args:
            batches: those of the step.
            micro_step: which of the process's batches of this step, from 0 to below `micro_steps(count, world_size)`.
            rank: the number of the process, from 0.
            world_size: how many processes there are.

        Returns:
            (2, rows, context_length) int64 on the CPU: the inputs, and the targets, which are the inputs' next tokens.

        Raises:
            ValueError: the windows of a step cannot be divided among so many processes.
        """
        rows, length = self.rows(world_size), self._config.context_length
        first = (rank * self.micro_steps(batches.count, world_size) + micro_step) * rows
        number, begin = divmod(first, self._config.batch_size)
        parts, starts = self._windows.locate(batches.first + number)
        chosen = slice(begin, begin + rows)
        windows = torch.from_numpy(self._split.read_windows(parts[chosen], starts[chosen], length + 1))
        return torch.stack((windows[:, :-1], windows[:, 1:]))
