"""A growing table of counted pre-tokens over the counting kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bpe.kernels.counting import add_words, count_pieces, list_words, move_entries
from bpe.unicode_classes import class_table

if TYPE_CHECKING:
    from bpe.texts import Block

_FIRST_CAPACITY = 1 << 15
_FIRST_ARENA = 1 << 17


class WordTable:
    """Counts of pre-tokens in flat arrays; not for use by two threads at once."""

    def __init__(self, capacity: int = _FIRST_CAPACITY, arena_bytes: int = _FIRST_ARENA) -> None:
        self._table = np.zeros((capacity, 4), dtype=np.uint64)
        self._arena = np.empty(arena_bytes, dtype=np.uint8)
        self._state = np.zeros(2, dtype=np.int64)

    def count(self, block: Block) -> None:
        """Count the pre-tokens of a block by GPT-2's pattern."""
        data = np.frombuffer(block.data, dtype=np.uint8)
        starts, ends, _ = block.segments()
        progress = np.zeros(2, dtype=np.int64)
        while not count_pieces(data, starts, ends, progress, class_table(), self._table, self._arena, self._state):
            self._grow(len(data))

    def add(self, words: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> None:
        """Add counted words, as `words` of another table returns them."""
        words.flags.writeable = False  # the kernels are compiled for read-only text
        done = 0
        while (done := add_words(words, offsets, counts, done, self._table, self._arena, self._state)) < len(counts):
            self._grow(len(words))

    def words(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return bytes uint8 (total,), offsets int64 (words + 1,), counts int64 (words,)."""
        return list_words(self._table, self._arena, int(self._state[0]))

    def _grow(self, longest: int) -> None:
        """Make room for more entries and for a piece of up to `longest` bytes."""
        entries, used = self._state
        if 2 * (entries + 1) > len(self._table):
            larger = np.zeros((2 * len(self._table), 4), dtype=np.uint64)
            move_entries(self._table, larger)
            self._table = larger
        else:
            arena = np.empty(2 * len(self._arena) + longest, dtype=np.uint8)
            arena[:used] = self._arena[:used]
            self._arena = arena
