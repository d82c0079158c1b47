"""The windows of a split that make up a batch: a pure function of the seed and the number of the batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from trainer.data.windows import TokenArray, batch_generator


class RandomWindows:
    """Windows whose starts are uniform over all possible ones, drawn independently of each other.

    Args:
        lengths: Ids in each part of the split.
        context_length: Tokens in a window.
        batch_size: Windows in a batch.
        batches_per_step: A batch is drawn by its step and its number in the step; 1 if steps differ.
        seed: Seed of all draws.
    """

    def __init__(
        self, lengths: list[int], context_length: int, batch_size: int, batches_per_step: int, seed: int
    ) -> None:
        self._ends = np.cumsum([length - context_length for length in lengths])
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._seed = seed

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,).

        Args:
            number: How many batches of the run come before it.
        """
        generator = batch_generator(self._seed, *divmod(number, self._batches_per_step))
        return _locate(self._ends, generator.integers(self._ends[-1], size=self._batch_size))


class ShuffledWindows:
    """Windows without replacement: each epoch visits every window once, in an order of its own.

    A part of n ids is cut into adjacent windows, one less than fit (but at least one), so that the cuts can shift. The
    offset of the first cut is drawn for every epoch, uniformly. Therefore every epoch has the same number of windows,
    omits other ids at the ends, and any batch is found without its predecessors. Neighbours share one token: the last
    target of a window is the first input of the next one.

    Args:
        lengths: Ids in each part of the split.
        context_length: Tokens in a window.
        batch_size: Windows in a batch.
        seed: Seed of all draws.
    """

    def __init__(self, lengths: list[int], context_length: int, batch_size: int, seed: int) -> None:
        self._context_length = context_length
        self._batch_size = batch_size
        self._seed = seed
        counts = [max(1, (length - 1) // context_length - 1) for length in lengths]
        self._ends = np.cumsum(counts)
        self._offsets = [length - count * context_length for length, count in zip(lengths, counts, strict=True)]
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)  # a batch may reach into the next epoch

    @property
    def windows_per_epoch(self) -> int:
        """Windows in all parts."""
        return int(self._ends[-1])

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,)."""
        first = number * self._batch_size
        epochs, places = np.divmod(np.arange(first, first + self._batch_size), self.windows_per_epoch)
        parts, starts = np.empty_like(places), np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            rows = epochs == epoch
            order, offsets = self._epoch(epoch)
            parts[rows], numbers = _locate(self._ends, order[places[rows]])
            starts[rows] = offsets[parts[rows]] + numbers * self._context_length
        return parts, starts

    def _draw_epoch(self, epoch: int) -> tuple[TokenArray, TokenArray]:
        """Draw the order of an epoch's windows, (windows,), and the start of the first one in each part, (parts,)."""
        generator = np.random.default_rng([self._seed, epoch])
        return generator.permutation(self.windows_per_epoch), generator.integers(self._offsets)


def _locate(ends: TokenArray, numbers: TokenArray) -> tuple[TokenArray, TokenArray]:
    """Convert numbers that count through all parts into parts and numbers within them."""
    parts = np.searchsorted(ends, numbers, side="right")
    return parts, numbers - np.concatenate(([0], ends))[parts]
