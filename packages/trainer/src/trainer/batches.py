"""The batches of a run: pure functions of the seed, the step and who asks, so that resuming needs no loader state."""

from __future__ import annotations

import math

import torch

from trainer.config import TrainConfig
from trainer.token_split import TokenSplit
from trainer.windows import RandomWindows, ShuffledWindows, Windows


class BatchSource:
    """Reads the training batches of a run, for one process or for several that share them.

    A step has `batch_size * grad_accumulation_steps` windows, the same for any number of processes. Each process gets
    as many of them, side by side: whole micro batches as long as there are enough of them, else equal parts of them.
    So the mean over all processes of their mean losses is the mean loss of the step.

    Args:
        split: the training split; each part must hold a window and the token after it.
        config: the settings of the run.
    """

    def __init__(self, split: TokenSplit, config: TrainConfig) -> None:
        self._split = split
        self._config = config
        lengths, length, rows = split.lengths, config.context_length, config.batch_size
        self._windows: Windows = RandomWindows(lengths, length, rows, config.seed)
        if config.sampling == "shuffled":
            self._windows = ShuffledWindows(lengths, length, rows, config.grad_accumulation_steps, config.seed)

    def micro_steps(self, world_size: int = 1) -> int:
        """Return how many batches each of `world_size` processes reads in a step."""
        accumulation = self._config.grad_accumulation_steps
        return accumulation // math.gcd(accumulation, world_size)

    def rows(self, world_size: int = 1) -> int:
        """Return how many windows each of these batches has.

        Raises:
            ValueError: the windows of a step cannot be divided like this.
        """
        config = self._config
        shares = world_size // math.gcd(config.grad_accumulation_steps, world_size)
        if config.batch_size % shares:
            raise ValueError(
                f"{world_size} processes cannot share a step of {config.grad_accumulation_steps} x {config.batch_size} "
                f"windows: expected a batch_size that is a multiple of {shares}, or grad_accumulation_steps that are "
                f"a multiple of {world_size}"
            )
        return config.batch_size // shares

    def batch(self, step: int, micro_step: int, rank: int = 0, world_size: int = 1) -> torch.Tensor:
        """Read one batch of one process.

        Args:
            step: the optimizer step, from 0.
            micro_step: which of the process's batches of this step, from 0 to below `micro_steps(world_size)`.
            rank: the number of the process, from 0.
            world_size: how many processes there are.

        Returns:
            (2, rows, context_length) int64 on the CPU: the inputs, and the targets, which are the inputs' next tokens.

        Raises:
            ValueError: the windows of a step cannot be divided among so many processes.
        """
        rows, length = self.rows(world_size), self._config.context_length
        first = (rank * self.micro_steps(world_size) + micro_step) * rows
        whole_step, begin = divmod(first, self._config.batch_size)
        parts, starts = self._windows.locate(step, whole_step)
        chosen = slice(begin, begin + rows)
        windows = torch.from_numpy(self._split.read_windows(parts[chosen], starts[chosen], length + 1))
        return torch.stack((windows[:, :-1], windows[:, 1:]))
