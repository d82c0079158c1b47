"""Which windows of a split a batch has: a pure function of the seed and the batch's place in the run."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from trainer.data.permutation import ROUNDS, Permutation, Unsigned
from trainer.data.windows import TokenArray, batch_generator


class Windows(Protocol):
    """Chooses the windows of a run."""

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,).

        Args:
            number: how many batches of the run come before it.
        """


class RandomWindows:
    """Windows whose starts are uniform over all possible ones, drawn independently of each other.

    Args:
        lengths: ids in each part of the split.
        context_length: tokens in a window.
        batch_size: windows in a batch.
        batches_per_step: a batch is drawn by its step and its number in the step; 1 if steps differ.
        seed: decides everything.
    """

    def __init__(
        self, lengths: list[int], context_length: int, batch_size: int, batches_per_step: int, seed: int
    ) -> None:
        self._ends = np.cumsum([length - context_length for length in lengths])
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._seed = seed

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,)."""
        generator = batch_generator(self._seed, *divmod(number, self._batches_per_step))
        return _locate(self._ends, generator.integers(self._ends[-1], size=self._batch_size))


class ShuffledWindows:
    """Windows without replacement: each epoch visits every window once, in an order of its own.

    A part of n ids is cut into windows side by side, one less than fit (but at least one), so that the cuts can shift:
    their offset is drawn for every epoch from all that leave room. So what is left out differs from epoch to epoch,
    every epoch has the same number of windows, and any batch is found without its predecessors. Neighbours share one
    token: the last target of a window is the first input of the next one.

    Args:
        lengths: ids in each part of the split.
        context_length: tokens in a window.
        batch_size: windows in a batch.
        seed: decides everything.
    """

    def __init__(self, lengths: list[int], context_length: int, batch_size: int, seed: int) -> None:
        self._context_length = context_length
        self._batch_size = batch_size
        self._seed = seed
        counts = [max(1, (length - 1) // context_length - 1) for length in lengths]
        self._ends = np.cumsum(counts)
        self._offsets = np.asarray(
            [length - count * context_length for length, count in zip(lengths, counts, strict=True)], np.uint64
        )
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)

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
            windows = order(places[rows].astype(np.uint64)).astype(np.int64)
            parts[rows], numbers = _locate(self._ends, windows)
            starts[rows] = offsets[parts[rows]] + numbers * self._context_length
        return parts, starts

    def _make_epoch(self, epoch: int) -> tuple[Permutation, TokenArray]:
        """Return the order of an epoch's windows, and where in each part the first one begins."""
        # NumPy guarantees that these numbers stay the same in all its versions.
        sequence = np.random.SeedSequence([self._seed, epoch])
        words: Unsigned = np.asarray(sequence.generate_state(ROUNDS + len(self._offsets), np.uint64), np.uint64)
        order = Permutation(self.windows_per_epoch, words[:ROUNDS])
        return order, (words[ROUNDS:] % self._offsets).astype(np.int64)


def _locate(ends: TokenArray, numbers: TokenArray) -> tuple[TokenArray, TokenArray]:
    """Turn numbers that count through all parts into parts and numbers within them."""
    parts = np.searchsorted(ends, numbers, side="right")
    return parts, numbers - np.concatenate(([0], ends))[parts]
