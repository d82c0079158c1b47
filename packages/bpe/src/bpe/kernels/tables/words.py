"""Counting pre-tokens in a flat open-addressing table.

A table is uint64 of shape (4 * capacity,), four words for each slot: the two words of the key; the length in bytes (0:
free) in the lower half and, in the upper half, where the bytes of a piece that is not its own key lie in the arena; the
count. `state` is int64 of shape (2,): entries in use, bytes of the arena in use. A kernel that finds no room returns
where it stopped; the caller makes room and goes on from there.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.vectors import BLOCK, prefetch
from bpe.kernels.scanning.gpt2 import ENDS, next_ends
from bpe.kernels.tables.hashing import PACKED, piece_key, piece_slot, same_bytes, slot_shift

_HIGH, _SIZE, _COUNT = np.uint64(1), np.uint64(2), np.uint64(3)
_ONE, _TWO = np.uint64(1), np.uint64(2)
_HALF, _LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)
_FREE = np.uint64(0)

MAX_ARENA = 2**32 - 1
"""The upper half of a word is what an offset in the arena has."""


@kernel
def entry_of(
    data: np.ndarray,
    start: int,
    length: int,
    low: np.uint64,
    high: np.uint64,
    slot: np.uint64,
    table: np.ndarray,
    arena: np.ndarray,
) -> np.uint64:
    """Return where the entry of a piece begins in the table, or the free one where it belongs."""
    mask = np.uint64((table.shape[0] >> 2) - 1)
    while True:
        entry = slot << _TWO
        size = table[entry + _SIZE]
        if table[entry] == low and table[entry + _HIGH] == high and size & _LOW_HALF == np.uint64(length):
            if length <= PACKED or same_bytes(arena, np.int64(size >> _HALF), data, start, length):
                return entry
        elif size == _FREE:
            return entry
        slot = (slot + _ONE) & mask


@kernel
def _enter(
    data: np.ndarray,
    start: int,
    length: int,
    low: np.uint64,
    high: np.uint64,
    entry: np.uint64,
    table: np.ndarray,
    arena: np.ndarray,
    state: np.ndarray,
) -> bool:
    """Make a free entry that of a piece, with count 0; return False, with nothing changed, if there is no room."""
    stored = length if length > PACKED else 0
    if 16 * (state[0] + 1) > 3 * table.shape[0] or state[1] + stored > arena.shape[0]:
        return False
    for offset in range(stored):
        arena[state[1] + offset] = data[start + offset]
    table[entry], table[entry + _HIGH] = low, high
    table[entry + _SIZE] = np.uint64(length) | np.uint64(state[1]) << _HALF
    state[0] += 1
    state[1] += stored
    return True


@kernel
def count_pieces(
    data: np.ndarray,
    spans: np.ndarray,
    progress: np.ndarray,
    scanner: tuple[int, int],
    classes: np.ndarray,
    table: np.ndarray,
    arena: np.ndarray,
    state: np.ndarray,
) -> bool:
    """Count the pre-tokens of `data` between special tokens; return False when room must be made first.

    `spans` (int64, special tokens x 3) says where these lie; `progress` (int64, shape (2,)) is where to begin and
    where it stopped: number of spans behind it, position.
    """
    ends, tail = np.empty(ENDS, dtype=np.int64), np.zeros(2 * BLOCK, dtype=np.uint8)
    lows, highs, slots = np.empty((3, ENDS), dtype=np.uint64)
    shift = slot_shift(table.shape[0] >> 2)
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_ends(data, position, end, scanner, classes, ends, tail)
            start = position
            for index in range(number):
                place = np.uint64(index)
                lows[place], highs[place] = piece_key(data, start, ends[place] - start)
                slots[place] = piece_slot(lows[place], highs[place], shift)
                prefetch(table, slots[place] << _TWO)
                start = ends[place]
            for index in range(number):
                place = np.uint64(index)
                low, high, length = lows[place], highs[place], ends[place] - position
                entry = entry_of(data, position, length, low, high, slots[place], table, arena)
                if table[entry + _SIZE] == _FREE and not _enter(
                    data, position, length, low, high, entry, table, arena, state
                ):
                    progress[0], progress[1] = segment, position
                    return False
                table[entry + _COUNT] += _ONE
                position = ends[place]
        if segment < spans.shape[0]:
            progress[1] = spans[segment, 1]
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
    shift = slot_shift(table.shape[0] >> 2)
    for word in range(first, counts.shape[0]):
        start, length = offsets[word], offsets[word + 1] - offsets[word]
        low, high = piece_key(words, start, length)
        entry = entry_of(words, start, length, low, high, piece_slot(low, high, shift), table, arena)
        if table[entry + _SIZE] == _FREE and not _enter(words, start, length, low, high, entry, table, arena, state):
            return word
        table[entry + _COUNT] += np.uint64(counts[word])
    return counts.shape[0]


@kernel
def move_entries(table: np.ndarray, larger: np.ndarray) -> None:
    """Enter everything of `table` into the empty table `larger`; the third word of a free entry is 0 in both."""
    mask = np.uint64((larger.shape[0] >> 2) - 1)
    shift = slot_shift(larger.shape[0] >> 2)
    for entry in range(0, table.shape[0], 4):
        if table[entry + 2] != _FREE:
            slot = piece_slot(table[entry], table[entry + 1], shift)
            while larger[(slot << _TWO) + _SIZE] != _FREE:
                slot = (slot + _ONE) & mask
            for word in range(4):
                larger[(slot << _TWO) + np.uint64(word)] = table[entry + word]


@kernel
def list_words(table: np.ndarray, arena: np.ndarray, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the words of a table: bytes uint8 (total,), offsets int64 (entries + 1,), counts int64 (entries,)."""
    offsets = np.zeros(entries + 1, dtype=np.int64)
    counts = np.empty(entries, dtype=np.int64)
    word = 0
    for entry in range(0, table.shape[0], 4):
        if table[entry + 2] != _FREE:
            offsets[word + 1] = offsets[word] + np.int64(table[entry + 2] & _LOW_HALF)
            counts[word] = np.int64(table[entry + 3])
            word += 1
    words = np.empty(offsets[entries], dtype=np.uint8)
    word = 0
    for entry in range(0, table.shape[0], 4):
        length = np.int64(table[entry + 2] & _LOW_HALF)
        if length == 0:
            continue
        source = np.int64(table[entry + 2] >> _HALF)
        for offset in range(length):
            if length > PACKED:
                words[offsets[word] + offset] = arena[source + offset]
            else:
                bits = table[entry + (offset >> 3)] >> np.uint64(8 * (offset & 7))
                words[offsets[word] + offset] = np.uint8(bits & np.uint64(0xFF))
        word += 1
    return words, offsets, counts
