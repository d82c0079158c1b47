"""Windows of a split that make up a batch: a pure function of the seed and the number of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np

from trainer.config import TrainConfig
from trainer.data.documents import find_documents
from trainer.data.splits import TokenSplit
from trainer.data.windows import TokenArray, batch_generator


class Windows(Protocol):
    """Training windows of a split, found by the number of their batch."""

    def read(self, number: int, rows: slice) -> tuple[TokenArray, TokenArray]:
        """Read windows of a batch.

        Args:
            number: How many batches of the run come before it.
            rows: Windows of the batch to read.

        Returns:
            Inputs and targets, both (rows, context_length) int64.
        """


def make_windows(split: TokenSplit, config: TrainConfig) -> Windows:
    """Return the windows that a run draws from a split.

    Raises:
        ValueError: If documents are to be sampled, and their separator is not known or does not occur.
    """
    if config.sampling == "random":
        return RandomWindows(
            split, config.context_length, config.batch_size, config.grad_accumulation_steps, config.seed
        )
    if config.sampling == "documents" and split.examples is None:
        return DocumentWindows(split, config.context_length, config.batch_size, config.separator_id, config.seed)
    return ShuffledWindows(split, config.context_length, config.batch_size, config.seed)


class RandomWindows:
    """Windows whose starts are uniform over all possible ones, drawn independently of each other.

    Args:
        split: Text, or examples, which are then drawn uniformly.
        context_length: Tokens in a window.
        batch_size: Windows in a batch.
        batches_per_step: A batch is drawn by its step and its number in the step; 1 if steps differ.
        seed: Seed of all draws.
    """

    def __init__(
        self, split: TokenSplit, context_length: int, batch_size: int, batches_per_step: int, seed: int
    ) -> None:
        self._split = split
        self._context_length = context_length
        starts = [length - context_length for length in split.lengths]
        self._ends = np.cumsum(starts if split.examples is None else [len(split.examples)])
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._seed = seed

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,)."""
        generator = batch_generator(self._seed, *divmod(number, self._batches_per_step))
        return _locate(self._ends, generator.integers(self._ends[-1], size=self._batch_size))

    def read(self, number: int, rows: slice) -> tuple[TokenArray, TokenArray]:
        """Read windows of a batch."""
        parts, starts = self.locate(number)
        return self._split.read_windows(parts[rows], starts[rows], self._context_length)


class ShuffledWindows:
    """Windows without replacement: each epoch visits every window once, in an order of its own.

    A part of n ids is cut into adjacent windows, one less than fit (but at least one), so that the cuts can shift. The
    offset of the first cut is drawn for every epoch, uniformly. Therefore every epoch has the same number of windows,
    omits other ids at the ends, and any batch is found without its predecessors. Neighbours share one token: the last
    target of a window is the first input of the next one. An example is a window that stays as it is.

    Args:
        split: Text or examples.
        context_length: Tokens in a window.
        batch_size: Windows in a batch.
        seed: Seed of all draws.
    """

    def __init__(self, split: TokenSplit, context_length: int, batch_size: int, seed: int) -> None:
        self._split = split
        self._context_length = context_length
        self._batch_size = batch_size
        self._seed = seed
        if split.examples is not None:
            counts, self._offsets, self._stride = [len(split.examples)], [1], 1
        else:
            counts = [max(1, (length - 1) // context_length - 1) for length in split.lengths]
            self._offsets = [length - n * context_length for length, n in zip(split.lengths, counts, strict=True)]
            self._stride = context_length
        self._ends = np.cumsum(counts)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)  # a batch may reach into the next epoch

    @property
    def windows_per_epoch(self) -> int:
        """Windows in all parts."""
        return int(self._ends[-1])

    def locate(self, number: int) -> tuple[TokenArray, TokenArray]:
        """Return the part of the split and the start in it of each window of a batch, both (batch_size,)."""
        parts, starts = np.empty((2, self._batch_size), np.int64)
        for epoch, rows, places in _by_epoch(number, self._batch_size, self.windows_per_epoch):
            order, offsets = self._epoch(epoch)
            parts[rows], numbers = _locate(self._ends, order[places])
            starts[rows] = offsets[parts[rows]] + numbers * self._stride
        return parts, starts

    def read(self, number: int, rows: slice) -> tuple[TokenArray, TokenArray]:
        """Read windows of a batch."""
        parts, starts = self.locate(number)
        return self._split.read_windows(parts[rows], starts[rows], self._context_length)

    def _draw_epoch(self, epoch: int) -> tuple[TokenArray, TokenArray]:
        """Draw the order of an epoch's windows, (windows,), and the start of the first one in each part, (parts,)."""
        generator = np.random.default_rng([self._seed, epoch])
        return generator.permutation(self.windows_per_epoch), generator.integers(self._offsets)


class DocumentWindows:
    """Windows of documents in a new order each epoch: the text of an epoch is cut into adjacent windows.

    A window may hold several documents, or a piece of one, and documents of all parts are mixed. Every epoch has the
    same number of windows; it omits the last ids of its text, fewer than a window.

    Args:
        split: Text.
        context_length: Tokens in a window.
        batch_size: Windows in a batch.
        separator_id: Id of the token after each document; it is added to the last document of a part that lacks it.
        seed: Seed of all draws.

    Raises:
        ValueError: If the separator is not known or does not occur.
    """

    def __init__(
        self, split: TokenSplit, context_length: int, batch_size: int, separator_id: int | None, seed: int
    ) -> None:
        if separator_id is None:
            raise ValueError(
                'sampling is "documents" but separator_id is None: give the id of the token between documents, such as '
                "tokenizer.eot_id"
            )
        self._split = split
        self._context_length = context_length
        self._batch_size = batch_size
        self._separator_id = separator_id
        self._seed = seed
        self._documents = find_documents(split, separator_id)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)  # a batch may reach into the next epoch

    @property
    def windows_per_epoch(self) -> int:
        """Whole windows in the text of an epoch."""
        return (int(self._documents.lengths.sum()) - 1) // self._context_length

    def read(self, number: int, rows: slice) -> tuple[TokenArray, TokenArray]:
        """Read windows of a batch."""
        windows = np.empty((self._batch_size, self._context_length + 1), np.int64)
        for epoch, found, places in _by_epoch(number, self._batch_size, self.windows_per_epoch):
            for row, place in zip(found.tolist(), places.tolist(), strict=True):
                if rows.start <= row < rows.stop:
                    self._fill(windows[row], epoch, place * self._context_length)
        windows = windows[rows]
        return windows[:, :-1], windows[:, 1:]

    def _fill(self, window: TokenArray, epoch: int, begin: int) -> None:
        """Copy a window from the text of an epoch, where it begins at `begin`."""
        order, ends = self._epoch(epoch)
        place, filled = int(np.searchsorted(ends, begin, side="right")), 0
        while filled < len(window):
            document = order[place]
            left = int(ends[place]) - begin - filled
            size = min(left, len(window) - filled)
            skipped = int(self._documents.lengths[document]) - left
            window[filled : filled + size] = self._documents.read(self._split, document, skipped, size)
            filled, place = filled + size, place + 1

    def _draw_epoch(self, epoch: int) -> tuple[TokenArray, TokenArray]:
        """Draw the order of an epoch's documents; return it and the end of each in the text, both (documents,)."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._documents.lengths))
        return order, np.cumsum(self._documents.lengths[order])


def _by_epoch(number: int, batch_size: int, per_epoch: int) -> Iterator[tuple[int, TokenArray, TokenArray]]:
    """Yield each epoch that a batch reaches into, with its rows of the batch and the windows' places in the epoch."""
    first = number * batch_size
    epochs, places = np.divmod(np.arange(first, first + batch_size), per_epoch)
    for epoch in np.unique(epochs).tolist():
        rows = np.flatnonzero(epochs == epoch)
        yield epoch, rows, places[rows]


def _locate(ends: TokenArray, numbers: TokenArray) -> tuple[TokenArray, TokenArray]:
    """Convert numbers that count through all parts into parts and numbers within them."""
    parts = np.searchsorted(ends, numbers, side="right")
    return parts, numbers - np.concatenate(([0], ends))[parts]
