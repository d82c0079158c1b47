"""Encoding of UTF-8 text to token ids: known pre-tokens from a bounded cache, others by applying merges.

Threads share the cache. An entry is written once: the thread that finds it free reserves it, fills it in and finally
publishes it by writing the second half of its key. The caller replaces a cache that is full.

The table of the cache is uint64. A bucket of eight fields, one cache line, holds two entries of four fields:

- two halves of the key (`hashing`); the second is zero if the entry is free, and is written last;
- the number of ids in 8 bits, the length of the pre-token in 8 bits, and the first id in the upper half;
- two more ids. If there are more than three ids, or the pre-token is not its own key, this field holds the offset of
  its ids in the lower half and the offset of its bytes in the upper half.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, Spans, Words
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import add_and_fetch_old, load_acquire, store_ids, store_release, swap_if_equal
from bpe.kernels.merging.long_pretokens import LONG, MergeArrays, encode_long_pretoken, encode_window, space_for
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.tables.hashing import PACKED, pretoken_key, pretoken_slot, same_bytes, slot_shift
from bpe.kernels.tables.pretokens import PretokenBuffers, find_entry, next_pretokens

EXTRA_IDS = 4
"""Ids are stored four at a time, so arrays of ids need space for so many more."""

DONE, CACHE_FULL, BUFFER_FULL, MISSING_BYTE = 0, 1, 2, 3

_HIGH, _SIZES, _IDS = np.uint64(1), np.uint64(2), np.uint64(3)
_FREE, _RESERVED = np.uint64(0), np.uint64(1)
_FOUR, _EIGHT_FIELDS = np.uint64(4), np.uint64(8)
_EIGHT, _HALF = np.uint64(8), np.uint64(32)
_BYTE, _LOW_HALF = np.uint64(0xFF), np.uint64(0xFFFFFFFF)
_INLINE_IDS = 3
_LONGEST_CACHED = 64


class Cache(NamedTuple):
    """The ids of pre-tokens encoded before."""

    table: Words
    many_ids: Ids
    long_bytes: Bytes
    used: Numbers
    """Numbers of entries, ids and bytes in use: int64, shape (3,)."""


@kernel
def _whole_id(data: np.ndarray, start: int, length: int, merges: MergeArrays) -> np.int64:
    """Return the id of a pre-token that is a token without merging, or -1."""
    whole = merges.whole
    low, high = pretoken_key(data, start, length)
    first = pretoken_slot(low, high, slot_shift(whole.shape[0] >> 2)) * _FOUR
    entry = find_entry(data, start, length, low, high, first, whole, merges.whole_bytes)
    return np.int64(whole[entry + np.uint64(3)] if whole[entry + _HIGH] != _FREE else -1)


@kernel
def _encode_pretoken(
    data: np.ndarray, start: int, length: int, merges: MergeArrays, buffer: np.ndarray, out: np.ndarray, written: int
) -> int:
    """Encode a pre-token into `out` from index `written` and return the number of its ids.

    -1 means that a byte has no id, another negative number how large a buffer is needed.
    """
    if merges.whole.shape[0] > 0:
        id_ = _whole_id(data, start, length, merges)
        if id_ >= 0:
            out[written] = id_
            return 1
    if length > LONG:
        number = encode_long_pretoken(data, start, length, merges, buffer, out, written)
    elif space_for(length) > buffer.shape[0]:
        number = -space_for(length)
    else:
        number = encode_window(data, start, length, merges, buffer)
        for index in range(number):
            out[written + index] = buffer[index]
    for index in range(number):
        if out[written + index] >= merges.vocab_size:
            return -1
    return number


@kernel
def _has_space(cache: Cache) -> bool:
    """Return whether the cache has space for one more pre-token of any cacheable length."""
    return (
        8 * (cache.used[0] + 1) <= cache.table.shape[0]
        and cache.used[1] + _LONGEST_CACHED <= cache.many_ids.shape[0]
        and cache.used[2] + _LONGEST_CACHED <= cache.long_bytes.shape[0]
    )


@kernel
def _is_long_entry(data: np.ndarray, start: int, length: int, entry: np.uint64, cache: Cache) -> bool:
    """Return whether an entry with the key of a pre-token that is not its own key holds this pre-token."""
    stored = np.int64(cache.table[entry + _SIZES] >> _EIGHT & _BYTE)
    offset = np.int64(cache.table[entry + _IDS] >> _HALF)
    return stored == length and same_bytes(cache.long_bytes, offset, data, start, length)


@kernel
def _remember(
    data: np.ndarray, start: int, length: int, low: np.uint64, high: np.uint64, ids: np.ndarray, cache: Cache
) -> None:
    """Insert a pre-token and its ids, unless other threads have used up the space or inserted it already."""
    table, number = cache.table, ids.shape[0]
    if number > _INLINE_IDS or length > PACKED:
        stored_bytes = length if length > PACKED else 0
        first_id, first_byte = add_and_fetch_old(cache.used, 1, number), add_and_fetch_old(cache.used, 2, stored_bytes)
        if first_id + number > cache.many_ids.shape[0] or first_byte + stored_bytes > cache.long_bytes.shape[0]:
            return
        for offset in range(number):
            cache.many_ids[first_id + offset] = ids[offset]
        for offset in range(stored_bytes):
            cache.long_bytes[first_byte + offset] = data[start + offset]
        other_ids = np.uint64(first_id) | np.uint64(first_byte) << _HALF
    else:
        other_ids = np.uint64(ids[min(1, number - 1)]) | np.uint64(ids[number - 1]) << _HALF
    mask = np.uint64(table.shape[0] - 1)
    entry = pretoken_slot(low, high, slot_shift(table.shape[0] >> 3)) * _EIGHT_FIELDS
    while True:
        key = load_acquire(table, entry + _HIGH)
        if key == _FREE and swap_if_equal(table, entry + _HIGH, _FREE, _RESERVED):
            break
        if key == _FREE:
            continue
        if key == high and table[entry] == low and length <= PACKED:
            return
        entry = (entry + _FOUR) & mask
    table[entry], table[entry + _IDS] = low, other_ids
    table[entry + _SIZES] = np.uint64(number) | np.uint64(length) << _EIGHT | np.uint64(ids[0]) << _HALF
    store_release(table, entry + _HIGH, high)
    add_and_fetch_old(cache.used, 0, 1)


@entry_point
def move_cache(cache: Cache, larger: Cache) -> None:
    """Insert all entries of a cache, to which other threads may still be adding, into an empty one."""
    table = larger.table
    mask = np.uint64(table.shape[0] - 1)
    shift = slot_shift(table.shape[0] >> 3)
    for old in range(0, cache.table.shape[0], 4):
        high = load_acquire(cache.table, old + 1)
        if high in (_FREE, _RESERVED):
            continue
        low = cache.table[old]
        entry = pretoken_slot(low, high, shift) * _EIGHT_FIELDS
        while table[entry + _HIGH] != _FREE:
            entry = (entry + _FOUR) & mask
        table[entry], table[entry + _HIGH] = low, high
        table[entry + _SIZES], table[entry + _IDS] = cache.table[old + 2], cache.table[old + 3]
        larger.used[0] += 1
    # The ids and bytes that moved entries refer to were written before those entries.
    larger.used[1] = min(cache.used[1], cache.many_ids.shape[0])
    larger.used[2] = min(cache.used[2], cache.long_bytes.shape[0])
    for index in range(larger.used[1]):
        larger.many_ids[index] = cache.many_ids[index]
    for index in range(larger.used[2]):
        larger.long_bytes[index] = cache.long_bytes[index]


@entry_point
def encode_spans(
    data: Bytes,
    spans: Spans,
    special_ids: Numbers,
    scanner: Scanner,
    classes: Bytes,
    merges: MergeArrays,
    cache: Cache,
    buffers: PretokenBuffers,
    buffer: Numbers,
    progress: Numbers,
    written_at: Numbers,
    out: Ids,
) -> int:
    """Encode `data`, valid UTF-8, into `out` (uint32, one element per byte and span, and `EXTRA_IDS` more).

    Args:
        data: Text, read-only uint8.
        spans: Spans of special tokens, int64 of shape (n, 3); the last column is an index in `special_ids`.
        special_ids: Ids, int64; negative for a boundary between two texts.
        scanner: A `bpe.text.patterns.Scanner`.
        classes: The table of `unicode_classes`.
        merges: The tokenizer.
        cache: The ids of pre-tokens encoded before.
        buffers: Working memory for pre-tokens.
        buffer: Working memory for merging, int64.
        progress: Where to begin, and where encoding stopped: int64, spans passed, position, ids written, and the size
            of the buffer that is needed.
        written_at: Receives the number of ids written up to and including each span: int64, shape (n,).
        out: Receives the ids.

    Returns:
        DONE; CACHE_FULL or BUFFER_FULL (call again with another one); or MISSING_BYTE, in the pre-token at
        `progress[1]`.
    """
    ends, lows, highs, slots, _ = buffers
    table, many_ids = cache.table, cache.many_ids
    mask = np.uint64(table.shape[0] - 1)
    written = progress[2]
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_pretokens(data, position, end, scanner, classes, table, 8, buffers)
            for end_index in range(number):
                index = np.uint64(end_index)
                low, high, entry, length = lows[index], highs[index], slots[index], ends[index] - position
                key = high if length <= _LONGEST_CACHED else _FREE
                while key != _FREE:
                    # Both entries of a bucket begin in one cache line.
                    key = load_acquire(table, entry + _HIGH)
                    same_key = key == high and table[entry] == low
                    if same_key and (length <= PACKED or _is_long_entry(data, position, length, entry, cache)):
                        break
                    entry = (entry + _FOUR) & mask
                if key != _FREE:
                    sizes, ids = table[entry + _SIZES], table[entry + _IDS]
                    made = np.int64(sizes & _BYTE)
                    if made <= _INLINE_IDS and length <= PACKED:
                        store_ids(out, written, sizes >> _HALF | ids << _HALF, ids >> _HALF)
                    else:
                        for offset in range(made):
                            out[np.uint64(written + offset)] = many_ids[(ids & _LOW_HALF) + np.uint64(offset)]
                else:
                    if not _has_space(cache):
                        progress[0], progress[1], progress[2] = segment, position, written
                        return CACHE_FULL
                    made = _encode_pretoken(data, position, length, merges, buffer, out, written)
                    if made < 0:
                        progress[0], progress[1], progress[2], progress[3] = segment, position, written, -made
                        return MISSING_BYTE if made == -1 else BUFFER_FULL
                    if length <= _LONGEST_CACHED:
                        _remember(data, position, length, low, high, out[written : written + made], cache)
                written += made
                position = ends[index]
        if segment < spans.shape[0]:
            if special_ids[spans[segment, 2]] >= 0:
                out[written] = special_ids[spans[segment, 2]]
                written += 1
            written_at[segment] = written
            progress[1] = spans[segment, 1]
    progress[2] = written
    return DONE
