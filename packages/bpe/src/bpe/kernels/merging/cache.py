"""A bounded cache of the ids of pre-tokens.

Threads share the cache. An entry is written once: the thread that finds it free reserves it, fills it in and finally
publishes it by writing the second half of its key. The caller replaces a cache that is full.

The table of the cache is uint64. A bucket of eight fields, one cache line of the processor, holds two entries of four
fields:

- two halves of the key (`hashing`); the second is zero if the entry is free, and is written last;
- two ids;
- a third id and, from bit 32 on, in 8 bits each, the number of all ids and the length of the pre-token; in the highest
  8 bits, the number of ids in this entry. If there are more than three ids, or the pre-token is not its own key, no ids
  are in the entry. The field before is then the index of a record, which has the ids and, if they are not in the key,
  the bytes after them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, Words
from bpe.kernels.machine.compiling import entry_point, kernel, rare_kernel
from bpe.kernels.machine.operations import (
    add_and_fetch_old,
    copy_ids,
    load_acquire,
    store_release,
    swap_if_equal,
)
from bpe.kernels.tables.hashing import PACKED, pretoken_slot, same_bytes, slot_shift

EXTRA_IDS = 4
"""Ids are copied four at a time, so arrays of ids need space for so many more."""

LONGEST_CACHED = 64
"""Bytes of the longest pre-token that is remembered."""

LONGEST_RECORD = LONGEST_CACHED + LONGEST_CACHED // 4 + EXTRA_IDS
"""Elements of the longest record, and those read beyond it."""

HIGH, IDS, SIZES = np.uint64(1), np.uint64(2), np.uint64(3)
"""Fields of an entry after the first half of its key."""

INLINE = np.uint64(56)
"""The bits of `SIZES` below the number of ids in an entry."""

FREE, UNKNOWN = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
"""The second half of the key of a free entry, and the place of an entry that does not exist."""

_RESERVED = np.uint64(1)
_INLINE_IDS = 3
_FOUR, _EIGHT_FIELDS = np.uint64(4), np.uint64(8)
_HALF, _NUMBER, _LENGTH = np.uint64(32), np.uint64(32), np.uint64(40)
_BYTE = np.uint64(0xFF)


class Cache(NamedTuple):
    """The ids of pre-tokens encoded before."""

    table: Words
    records: Ids
    record_bytes: Bytes
    """The memory of `records`."""
    used: Numbers
    """Numbers of entries and of elements of records in use: int64, shape (2,)."""


@kernel
def has_space(cache: Cache) -> bool:
    """Return whether the cache has space for one more pre-token of any cacheable length."""
    # At most three quarters of the entries, of four fields each, may be in use.
    return (
        16 * (cache.used[0] + 1) <= 3 * cache.table.shape[0]
        and cache.used[1] + LONGEST_RECORD <= cache.records.shape[0]
    )


@kernel
def is_in_record(data: np.ndarray, start: int, length: int, entry: np.uint64, cache: Cache) -> bool:
    """Return whether an entry with the key of a pre-token that is not its own key holds this pre-token."""
    sizes, record = cache.table[entry + SIZES], np.int64(cache.table[entry + IDS])
    return np.int64(sizes >> _LENGTH & _BYTE) == length and same_bytes(
        data, start, cache.record_bytes, 4 * (record + np.int64(sizes >> _NUMBER & _BYTE)), length
    )


@kernel
def _holds(data: np.ndarray, start: int, length: int, low: np.uint64, entry: np.uint64, cache: Cache) -> bool:
    """Return whether an entry with the second half of the key of a pre-token holds this pre-token."""
    return cache.table[entry] == low and (length <= PACKED or is_in_record(data, start, length, entry, cache))


@kernel
def number_of_ids(entry: np.uint64, cache: Cache) -> np.int64:
    """Return the number of ids of an entry."""
    return np.int64(cache.table[entry + SIZES] >> _NUMBER & _BYTE)


@kernel
def copy_record(entry: np.uint64, cache: Cache, out: np.ndarray, written: int) -> np.int64:
    """Write the ids of an entry with a record to `out` and return their number."""
    made, first = number_of_ids(entry, cache), np.int64(cache.table[entry + IDS])
    for offset in range(0, made, 4):
        copy_ids(out, written + offset, cache.records, first + offset)
    return made


@kernel
def copy_entry(entry: np.uint64, cache: Cache, out: np.ndarray, written: int) -> np.int64:
    """Write the ids of any entry to `out` and return their number."""
    made = np.int64(cache.table[entry + SIZES] >> INLINE)
    if made == 0:
        return copy_record(entry, cache, out, written)
    copy_ids(out, written, cache.table, entry + IDS)
    return made


@rare_kernel
def remember(
    data: np.ndarray,
    start: int,
    length: int,
    low: np.uint64,
    high: np.uint64,
    ids: np.ndarray,
    number: int,
    cache: Cache,
) -> np.uint64:
    """Insert a pre-token and its first `number` ids, unless it is there already.

    Returns:
        The index of its entry, or `UNKNOWN` if other threads used up the space.
    """
    table = cache.table
    mask = np.uint64(table.shape[0] - 1)
    entry = pretoken_slot(low, high, slot_shift(table.shape[0] >> 3)) * _EIGHT_FIELDS
    inline, third = number, np.uint64(ids[min(2, number - 1)])
    field = np.uint64(ids[0]) | np.uint64(ids[min(1, number - 1)]) << _HALF
    if number > _INLINE_IDS or length > PACKED:
        stored_bytes = length if length > PACKED else 0
        size = number + (stored_bytes + 3) // 4
        record = add_and_fetch_old(cache.used, 1, size)
        if record + size + EXTRA_IDS > cache.records.shape[0]:
            return UNKNOWN
        for offset in range(number):
            cache.records[record + offset] = ids[offset]
        for offset in range(stored_bytes):
            cache.record_bytes[4 * (record + number) + offset] = data[start + offset]
        inline, field = 0, np.uint64(record)
    while True:
        key = load_acquire(table, entry + HIGH)
        if key == FREE and swap_if_equal(table, entry + HIGH, FREE, _RESERVED):
            break
        if key == FREE:
            continue
        if key == high and _holds(data, start, length, low, entry, cache):
            return entry
        entry = (entry + _FOUR) & mask
    table[entry], table[entry + IDS] = low, field
    sizes = np.uint64(number) << _NUMBER | np.uint64(length) << _LENGTH | np.uint64(inline) << INLINE
    table[entry + SIZES] = third | sizes
    store_release(table, entry + HIGH, high)
    add_and_fetch_old(cache.used, 0, 1)
    return entry


@kernel
def find_pretoken(
    data: np.ndarray, start: int, length: int, low: np.uint64, high: np.uint64, cache: Cache
) -> np.uint64:
    """Return the index of the entry of a pre-token, or `UNKNOWN`."""
    table, mask = cache.table, np.uint64(cache.table.shape[0] - 1)
    entry = pretoken_slot(low, high, slot_shift(table.shape[0] >> 3)) * _EIGHT_FIELDS
    while True:
        key = load_acquire(table, entry + HIGH)
        if key == FREE:
            return UNKNOWN
        if key == high and _holds(data, start, length, low, entry, cache):
            return entry
        entry = (entry + _FOUR) & mask


@entry_point
def move_cache(cache: Cache, larger: Cache) -> None:
    """Insert all entries of a cache, to which other threads may still be adding, into an empty one."""
    table = larger.table
    mask = np.uint64(table.shape[0] - 1)
    shift = slot_shift(table.shape[0] >> 3)
    for old in range(0, cache.table.shape[0], 4):
        high = load_acquire(cache.table, old + 1)
        if high in (FREE, _RESERVED):
            continue
        low = cache.table[old]
        entry = pretoken_slot(low, high, shift) * _EIGHT_FIELDS
        while table[entry + HIGH] != FREE:
            entry = (entry + _FOUR) & mask
        table[entry], table[entry + HIGH] = low, high
        table[entry + IDS], table[entry + SIZES] = cache.table[old + 2], cache.table[old + 3]
        larger.used[0] += 1
    # The records that moved entries refer to were written before those entries.
    larger.used[1] = min(cache.used[1], cache.records.shape[0])
    for index in range(larger.used[1]):
        larger.records[index] = cache.records[index]
