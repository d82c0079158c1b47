"""Counting pre-tokens in a flat open-addressing table.

A table is uint64 of shape (capacity, 4): key, length in bytes (0: free), offset of the bytes of pieces over eight bytes
in the arena, count. `state` is int64 of shape (2,): entries in use, bytes of the arena in use. A kernel that finds no
room returns where it stopped; the caller makes room and goes on from there.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.boundaries import piece_end
from bpe.kernels.compiling import kernel
from bpe.kernels.hashing import PACKED, first_slot, piece_key, same_bytes

_KEY, _LENGTH, _OFFSET, _COUNT = 0, 1, 2, 3
_ONE = np.uint64(1)


@kernel
def _add(
    data: np.ndarray, start: int, length: int, weight: int, table: np.ndarray, arena: np.ndarray, state: np.ndarray
) -> bool:
    """Add `weight` to the count of a piece; return False, with nothing changed, if there is no room for it."""
    capacity = table.shape[0]
    key = piece_key(data, start, length)
    slot = first_slot(key, length, capacity)
    while table[slot, _LENGTH] != 0:
        if (
            table[slot, _KEY] == key
            and table[slot, _LENGTH] == np.uint64(length)
            and (length <= PACKED or same_bytes(arena, np.int64(table[slot, _OFFSET]), data, start, length))
        ):
            table[slot, _COUNT] += np.uint64(weight)
            return True
        slot = (slot + _ONE) & np.uint64(capacity - 1)
    stored = length if length > PACKED else 0
    if 2 * (state[0] + 1) > capacity or state[1] + stored > arena.shape[0]:
        return False
    for offset in range(stored):
        arena[state[1] + offset] = data[start + offset]
    table[slot, _KEY] = key
    table[slot, _LENGTH] = np.uint64(length)
    table[slot, _OFFSET] = np.uint64(state[1])
    table[slot, _COUNT] = np.uint64(weight)
    state[0] += 1
    state[1] += stored
    return True


@kernel
def count_pieces(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    progress: np.ndarray,
    classes: np.ndarray,
    table: np.ndarray,
    arena: np.ndarray,
    state: np.ndarray,
) -> bool:
    """Count the pre-tokens of the segments `starts`-`ends` of `data`; return False when room must be made first.

    `progress` (int64, shape (2,)) is where to begin and where it stopped: segment, position.
    """
    for segment in range(progress[0], starts.shape[0]):
        position = max(progress[1], starts[segment])
        end = ends[segment]
        while position < end:
            stop = piece_end(data, position, end, classes)
            if not _add(data, position, stop - position, 1, table, arena, state):
                progress[0] = segment
                progress[1] = position
                return False
            position = stop
    return True


@kernel
def add_words(
    words: np.ndarray,
    offsets: np.ndarray,
    counts: np.ndarray,
    first: int,
    table: np.ndarray,
    arena: np.ndarray,
    state: np.ndarray,
) -> int:
    """Add counted words to a table, from word `first` on; return the word that needs more room, or their number."""
    for word in range(first, counts.shape[0]):
        start = offsets[word]
        if not _add(words, start, offsets[word + 1] - start, counts[word], table, arena, state):
            return word
    return counts.shape[0]


@kernel
def move_entries(table: np.ndarray, larger: np.ndarray) -> None:
    """Enter everything of `table` into the empty table `larger`."""
    mask = np.uint64(larger.shape[0] - 1)
    for row in range(table.shape[0]):
        if table[row, _LENGTH] != 0:
            slot = first_slot(table[row, _KEY], np.int64(table[row, _LENGTH]), larger.shape[0])
            while larger[slot, _LENGTH] != 0:
                slot = (slot + _ONE) & mask
            for column in range(4):
                larger[slot, column] = table[row, column]


@kernel
def list_words(table: np.ndarray, arena: np.ndarray, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the words of a table: bytes uint8 (total,), offsets int64 (entries + 1,), counts int64 (entries,)."""
    offsets = np.zeros(entries + 1, dtype=np.int64)
    counts = np.empty(entries, dtype=np.int64)
    word = 0
    for row in range(table.shape[0]):
        if table[row, _LENGTH] != 0:
            offsets[word + 1] = offsets[word] + np.int64(table[row, _LENGTH])
            counts[word] = np.int64(table[row, _COUNT])
            word += 1
    words = np.empty(offsets[entries], dtype=np.uint8)
    word = 0
    for row in range(table.shape[0]):
        length = np.int64(table[row, _LENGTH])
        if length == 0:
            continue
        for offset in range(length):
            if length <= PACKED:
                words[offsets[word] + offset] = np.uint8(table[row, _KEY] >> np.uint64(8 * offset) & np.uint64(0xFF))
            else:
                words[offsets[word] + offset] = arena[np.int64(table[row, _OFFSET]) + offset]
        word += 1
    return words, offsets, counts
