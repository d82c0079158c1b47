"""A growing table of counted pre-tokens over the counting kernels."""

from __future__ import annotations

import numpy as np

from bpe.kernels.tables.words import MAX_ARENA, add_words, count_pieces, list_words, move_entries
from bpe.text.patterns import Scanner
from bpe.text.unicode_classes import class_table

_FIRST_CAPACITY = 1 << 15
_FIRST_ARENA = 1 << 17


class WordTable:
    """Counts of pre-tokens in flat arrays; not for use by two threads at once."""

    def __init__(self, capacity: int = _FIRST_CAPACITY, arena_bytes: int = _FIRST_ARENA) -> None:
        self.table = np.zeros(4 * capacity, dtype=np.uint64)
        self.arena = np.empty(arena_bytes, dtype=np.uint8)
        self._state = np.zeros(2, dtype=np.int64)

    def count(self, data: np.ndarray, spans: np.ndarray, scanner: Scanner) -> None:
        """Count the pre-tokens of what `arrays_of` returns."""
        progress = np.zeros(2, dtype=np.int64)
        while not count_pieces(data, spans, progress, scanner, class_table(), self.table, self.arena, self._state):
            self._grow(len(data))

    def add(self, words: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> None:
        """Add counted words, as `words` of another table returns them."""
        words.flags.writeable = False  # the kernels are compiled for read-only text
        done = 0
        while (done := add_words(words, offsets, counts, done, self.table, self.arena, self._state)) < len(counts):
            self._grow(len(words))

    def words(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return bytes uint8 (total,), offsets int64 (words + 1,), counts int64 (words,)."""
        return list_words(self.table, self.arena, int(self._state[0]))

    def _grow(self, longest: int) -> None:
        """Make room for more entries and for a piece of up to `longest` bytes."""
        entries, used = self._state
        if 16 * (entries + 1) > 3 * len(self.table):
            larger = np.zeros(2 * len(self.table), dtype=np.uint64)
            move_entries(self.table, larger)
            self.table = larger
        else:
            if len(self.arena) >= MAX_ARENA:
                raise ValueError(
                    f"the distinct pre-tokens have more than {MAX_ARENA:,} bytes, which is all that can be counted; "
                    "use less text, or a pattern of shorter pre-tokens"
                )
            arena = np.empty(min(2 * len(self.arena) + longest, MAX_ARENA), dtype=np.uint8)
            arena[:used] = self.arena[:used]
            self.arena = arena
