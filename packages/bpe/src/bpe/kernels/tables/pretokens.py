"""Counts of pre-tokens in a flat open-addressing hash table.

The table is uint64 of shape (4 * capacity,). The entry in slot s begins at index 4 * s and has four fields:

- two halves of the key (`hashing`); the second is zero if the entry is free;
- the length in bytes in the lower 32 bits, and an offset in the arena in the upper 32 bits;
- the count.

The arena holds the bytes of the pre-tokens that are longer than `PACKED`. `state` is int64 of shape (2,): entries in
use, bytes of the arena in use. A kernel that runs out of space reports its progress; `PretokenTable` then makes space
and calls the kernel again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers, Spans, Words, read_only, zeros
from bpe.kernels.machine.compiling import entry_point, kernel, structure
from bpe.kernels.machine.operations import BLOCK, count_ones, leading_zeros, prefetch, trailing_zeros
from bpe.kernels.scanning.boundaries import block_starts, pretoken_end
from bpe.kernels.scanning.masks import NONE
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.scanning.unicode_classes import class_table
from bpe.kernels.tables.hashing import KEY_BYTES, PACKED, inner_key, pretoken_key, pretoken_slot, same_bytes, slot_shift

# Numba converts mixed uint64 and int64 to float64, so indices added to a uint64 are uint64 too.
_HIGH, _SIZE, _COUNT = np.uint64(1), np.uint64(2), np.uint64(3)
_ONE, _TWO, _FOUR = np.uint64(1), np.uint64(2), np.uint64(4)
_HALF, _LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)
_FREE = np.uint64(0)

MAX_ARENA = 2**32 - 1
"""Largest size of the arena: an offset in it has 32 bits."""

_PASSES = 16
"""Passes in which the entries of a table are listed, each over all of its slots."""

_FIRST_CAPACITY = 1 << 15
_FIRST_ARENA = 1 << 17

ENDS = 256
"""Pre-tokens found per call: enough for long loops over them, few enough for the fastest cache."""

KEY_FIELDS = np.uint64(3)


class PretokenBuffers(NamedTuple):
    """Working memory for the pre-tokens that one call of `next_pretokens` finds."""

    ends: Numbers
    keys: Words
    """For each the two halves of its key, and the index of the slot where the search for it begins."""


def pretoken_buffers() -> PretokenBuffers:
    """Return new buffers, for one thread."""
    return PretokenBuffers(np.empty(ENDS, dtype=np.int64), np.empty(int(KEY_FIELDS) * ENDS, dtype=np.uint64))


@kernel
def _add_key(
    end: int,
    low: np.uint64,
    high: np.uint64,
    shift: np.uint64,
    table: np.ndarray,
    fields: int,
    buffers: PretokenBuffers,
    count: int,
) -> None:
    """Write the end and the key of a pre-token, behind `count` others, and prefetch its slot."""
    ends, keys = buffers
    index = np.uint64(count)
    slot = pretoken_slot(low, high, shift) * np.uint64(fields)
    prefetch(table, slot)
    ends[index] = end
    index *= KEY_FIELDS
    keys[index], keys[index + _ONE], keys[index + _TWO] = low, high, slot


@entry_point
def next_pretokens(
    data: Bytes,
    position: int,
    end: int,
    scanner: Scanner,
    classes: Bytes,
    table: Words,
    fields: int,
    buffers: PretokenBuffers,
) -> int:
    """Find the next pre-tokens and prefetch their slots in a table of so many fields per slot.

    Args:
        data: Valid UTF-8, read-only uint8.
        position: The start of a pre-token, less than `end`.
        end: The end of the text between two special tokens.
        scanner: The pattern.
        classes: The table of `unicode_classes`.
        table: The table, uint64.
        fields: The number of fields of a slot.
        buffers: Receives the ends of the pre-tokens, in order, their keys and slots.

    Returns:
        The number of pre-tokens, from one to `ENDS`.
    """
    shift = slot_shift(table.shape[0] // fields)
    count, start = 0, position
    while count <= ENDS - BLOCK and position < end:
        starts = NONE
        if position + BLOCK + KEY_BYTES <= data.shape[0]:
            starts = block_starts(data, position, end, scanner, classes)
        if starts == NONE:
            position = pretoken_end(data, position, end, scanner, classes)
            low, high = pretoken_key(data, start, position - start)
            _add_key(position, low, high, shift, table, fields, buffers, count)
            start = position
            count += 1
            continue
        number = count_ones(starts)
        # Known before the loop below ends, so that the processor can already begin with the next block.
        last = position + BLOCK - 1 - leading_zeros(starts)
        # Between one block and the next, only a few slots are prefetched, so that memory keeps up.
        for index in range(count, count + number):
            finish = position + trailing_zeros(starts)
            starts &= starts - _ONE
            low, high = inner_key(data, start, finish - start)
            _add_key(finish, low, high, shift, table, fields, buffers, index)
            start = finish
        count += number
        position = last
    return count


@kernel
def find_entry(
    data: np.ndarray,
    start: int,
    length: int,
    low: np.uint64,
    high: np.uint64,
    entry: np.uint64,
    table: np.ndarray,
    arena: np.ndarray,
) -> np.uint64:
    """Return the index at which the entry of a pre-token begins, or a free one; the search begins at `entry`."""
    mask = np.uint64(table.shape[0] - 1)
    while True:
        if table[entry] == low and table[entry + _HIGH] == high:
            if length <= PACKED:
                return entry
            size = table[entry + _SIZE]
            same = size & _LOW_HALF == np.uint64(length)
            if same and same_bytes(arena, np.int64(size >> _HALF), data, start, length):
                return entry
        elif table[entry + _HIGH] == _FREE:
            return entry
        entry = (entry + _FOUR) & mask


@kernel
def _insert(
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
    """Insert a pre-token with count 0 at a free entry; without space, change nothing and return False."""
    stored = length if length > PACKED else 0
    # At most three quarters of the entries, of four fields each, may be in use.
    if 16 * (state[0] + 1) > 3 * table.shape[0] or state[1] + stored > arena.shape[0]:
        return False
    for offset in range(stored):
        arena[state[1] + offset] = data[start + offset]
    table[entry], table[entry + _HIGH] = low, high
    table[entry + _SIZE] = np.uint64(length) | np.uint64(state[1]) << _HALF
    state[0] += 1
    state[1] += stored
    return True


@entry_point
def count_pretokens(
    data: Bytes,
    spans: Spans,
    progress: Numbers,
    scanner: Scanner,
    classes: Bytes,
    table: Words,
    arena: Bytes,
    state: Numbers,
    buffers: PretokenBuffers,
) -> bool:
    """Count the pre-tokens of `data` between special tokens; return False when the table or the arena is full.

    `spans` (int64, shape (special tokens, 3)) are the spans of special tokens. `progress` (int64, shape (2,)) holds the
    number of spans passed and the position. The kernel starts there, and updates both numbers before it returns False.
    """
    ends, keys = buffers
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_pretokens(data, position, end, scanner, classes, table, 4, buffers)
            for end_index in range(number):
                index = np.uint64(end_index)
                length, at = ends[index] - position, index * KEY_FIELDS
                low, high, slot = keys[at], keys[at + _ONE], keys[at + _TWO]
                entry = find_entry(data, position, length, low, high, slot, table, arena)
                if table[entry + _HIGH] == _FREE and not _insert(
                    data, position, length, low, high, entry, table, arena, state
                ):
                    progress[0], progress[1] = segment, position
                    return False
                table[entry + _COUNT] += _ONE
                position = ends[index]
        if segment < spans.shape[0]:
            progress[1] = spans[segment, 1]
    return True


@entry_point
def add_counts(
    pretokens: Bytes,
    offsets: Numbers,
    counts: Numbers,
    first: int,
    table: Words,
    arena: Bytes,
    state: Numbers,
) -> int:
    """Add the counts of the pre-tokens from index `first`.

    Returns:
        The index of the first pre-token without space, or the number of pre-tokens if all were added.
    """
    shift = slot_shift(table.shape[0] >> 2)
    for index in range(first, counts.shape[0]):
        start, length = offsets[index], offsets[index + 1] - offsets[index]
        low, high = pretoken_key(pretokens, start, length)
        first_entry = pretoken_slot(low, high, shift) * _FOUR
        entry = find_entry(pretokens, start, length, low, high, first_entry, table, arena)
        if table[entry + _HIGH] == _FREE and not _insert(
            pretokens, start, length, low, high, entry, table, arena, state
        ):
            return index
        table[entry + _COUNT] += np.uint64(counts[index])
    return counts.shape[0]


@entry_point
def find_counts(data: Bytes, starts: Numbers, ends: Numbers, table: Words, arena: Bytes, counts: Numbers) -> None:
    """Write the count of each pre-token data[start:end] to `counts`, or -1 if it is not in the table."""
    shift = slot_shift(table.shape[0] >> 2)
    for index in range(starts.shape[0]):
        start, length = starts[index], ends[index] - starts[index]
        low, high = pretoken_key(data, start, length)
        first_entry = pretoken_slot(low, high, shift) * _FOUR
        entry = find_entry(data, start, length, low, high, first_entry, table, arena)
        counts[index] = np.int64(table[entry + _COUNT]) if table[entry + _HIGH] != _FREE else -1


@entry_point
def move_entries(table: Words, larger: Words) -> None:
    """Insert all entries of `table` into the empty table `larger`."""
    mask = np.uint64(larger.shape[0] - 1)
    shift = slot_shift(larger.shape[0] >> 2)
    for old in range(0, table.shape[0], 4):
        if table[old + 1] != _FREE:
            entry = pretoken_slot(table[old], table[old + 1], shift) * _FOUR
            while larger[entry + _HIGH] != _FREE:
                entry = (entry + _FOUR) & mask
            for field in range(4):
                larger[entry + np.uint64(field)] = table[old + field]


@entry_point
def list_counts(table: Words, arena: Bytes, pretokens: Bytes, offsets: Numbers, counts: Numbers) -> None:
    """Write all counts: `pretokens` has space for the bytes, `offsets` for entries + 1, `counts` for the entries.

    The order does not follow the slots: another table that is filled in the order of its slots has one long run of used
    entries, which takes quadratic time.
    """
    offsets[0] = 0
    index = 0
    for first in range(0, 4 * _PASSES, 4):
        for entry in range(first, table.shape[0], 4 * _PASSES):
            length = np.int64(table[entry + 2] & _LOW_HALF)
            if length == 0:
                continue
            source = np.int64(table[entry + 2] >> _HALF)
            for offset in range(length):
                if length > PACKED:
                    pretokens[offsets[index] + offset] = arena[source + offset]
                else:
                    bits = table[entry + (offset >> 3)] >> np.uint64(8 * (offset & 7))
                    pretokens[offsets[index] + offset] = np.uint8(bits & np.uint64(0xFF))
            offsets[index + 1] = offsets[index] + length
            counts[index] = np.int64(table[entry + 3])
            index += 1


class PretokenTable:
    """Counts of pre-tokens in a table and an arena that grow as needed; not for use by two threads at once."""

    def __init__(self, capacity: int = _FIRST_CAPACITY, arena_bytes: int = _FIRST_ARENA) -> None:
        self.table = zeros(4 * capacity, "uint64", at_once=True)
        self.arena = np.empty(arena_bytes, dtype=np.uint8)
        self._state = np.zeros(2, dtype=np.int64)
        self._buffers = structure(pretoken_buffers())

    def count(self, data: np.ndarray, spans: np.ndarray, scanner: Scanner) -> None:
        """Count the pre-tokens of `data` (valid UTF-8, read-only uint8) between the spans of special tokens."""
        progress = np.zeros(2, dtype=np.int64)
        while not count_pretokens(
            data, spans, progress, scanner, class_table(), self.table, self.arena, self._state, self._buffers
        ):
            self._grow(len(data))

    def add(self, pretokens: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> None:
        """Add counts in the form that `arrays` returns."""
        pretokens = read_only(pretokens)
        done = 0
        while (done := add_counts(pretokens, offsets, counts, done, self.table, self.arena, self._state)) < len(counts):
            self._grow(len(pretokens))

    def find(self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the count of each pre-token data[start:end], or -1 if it has none: int64."""
        counts = np.empty(len(starts), dtype=np.int64)
        find_counts(read_only(data), starts, ends, self.table, self.arena, counts)
        return counts

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return bytes uint8 (total,), offsets int64 (pre-tokens + 1,) and counts int64 (pre-tokens,)."""
        entries = int(self._state[0])
        size = int((self.table[2::4] & _LOW_HALF).sum())
        pretokens = np.empty(size, dtype=np.uint8)
        offsets, counts = np.empty(entries + 1, dtype=np.int64), np.empty(entries, dtype=np.int64)
        list_counts(self.table, self.arena, pretokens, offsets, counts)
        return pretokens, offsets, counts

    def _grow(self, longest: int) -> None:
        """Make space for more entries and for a pre-token of up to `longest` bytes."""
        entries, used = self._state
        if 16 * (entries + 1) > 3 * len(self.table):
            larger = zeros(2 * len(self.table), "uint64", at_once=True)
            move_entries(self.table, larger)
            self.table = larger
            return
        if len(self.arena) >= MAX_ARENA:
            raise ValueError(
                f"the distinct pre-tokens have more than {MAX_ARENA:,} bytes, which is the most that can be counted; "
                "use less text, or a pattern of shorter pre-tokens"
            )
        arena = np.empty(min(2 * len(self.arena) + longest, MAX_ARENA), dtype=np.uint8)
        arena[:used] = self.arena[:used]
        self.arena = arena
