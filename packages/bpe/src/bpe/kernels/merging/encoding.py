"""Encoding of UTF-8 text to token ids: known pre-tokens from a bounded cache, others by applying merges.

Threads share the cache. An entry is written once: the thread that finds it free reserves it, fills it in and finally
publishes it by writing its sizes, which every reader checks first. The caller replaces a cache that is full.

The table of the cache is uint64 of shape (4 * capacity,) with four fields per slot: the two halves of the key; the
sizes (length of the pre-token in 8 bits, 0: free; number of its ids in 8 bits) with the first id in the upper half; and
two more ids. If there are more than three ids, or the pre-token is not its own key, the last field holds the offset of
its ids in the lower half and the offset of its bytes in the upper half.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, Spans, Words
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import add_and_fetch_old, load_acquire, store_ids, store_release, swap_if_equal
from bpe.kernels.merging.long_pretokens import LONG, MergeArrays, encode_long_pretoken, encode_window, space_for
from bpe.kernels.tables.hashing import PACKED, pretoken_key, pretoken_slot, same_bytes, slot_shift
from bpe.kernels.tables.pretokens import PretokenBuffers, find_entry, next_pretokens

EXTRA_IDS = 4
"""Ids are stored four at a time, so arrays of ids need space for so many more."""

DONE, CACHE_FULL, BUFFER_FULL, MISSING_BYTE = 0, 1, 2, 3

_HIGH, _SIZES, _IDS = np.uint64(1), np.uint64(2), np.uint64(3)
_FREE, _RESERVED = np.uint64(0), np.uint64(0xFF)
_ONE, _TWO = np.uint64(1), np.uint64(2)
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
    slot = pretoken_slot(low, high, slot_shift(whole.shape[0] >> 2))
    entry = find_entry(data, start, length, low, high, slot, whole, merges.whole_bytes)
    return np.int64(whole[entry + np.uint64(3)] if whole[entry + _TWO] != _FREE else -1)


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
        16 * (cache.used[0] + 1) <= 3 * cache.table.shape[0]
        and cache.used[1] + _LONGEST_CACHED <= cache.many_ids.shape[0]
        and cache.used[2] + _LONGEST_CACHED <= cache.long_bytes.shape[0]
    )


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
    mask = np.uint64((table.shape[0] >> 2) - 1)
    slot = pretoken_slot(low, high, slot_shift(table.shape[0] >> 2))
    while True:
        entry = slot << _TWO
        sizes = load_acquire(table, entry + _SIZES)
        if sizes == _FREE and swap_if_equal(table, entry + _SIZES, _FREE, _RESERVED):
            break
        if sizes == _FREE:
            continue
        same = table[entry] == low and table[entry + _HIGH] == high and sizes & _BYTE == np.uint64(length)
        if same and length <= PACKED:
            return
        slot = (slot + _ONE) & mask
    table[entry], table[entry + _HIGH], table[entry + _IDS] = low, high, other_ids
    sizes = np.uint64(length) | np.uint64(number) << _EIGHT | np.uint64(ids[0]) << _HALF
    store_release(table, entry + _SIZES, sizes)
    add_and_fetch_old(cache.used, 0, 1)


@entry_point
def move_cache(cache: Cache, larger: Cache) -> None:
    """Insert all entries of a cache, to which other threads may still be adding, into an empty one."""
    table = larger.table
    mask = np.uint64((table.shape[0] >> 2) - 1)
    shift = slot_shift(table.shape[0] >> 2)
    for old in range(0, cache.table.shape[0], 4):
        sizes = load_acquire(cache.table, old + 2)
        if sizes in (_FREE, _RESERVED):
            continue
        low, high = cache.table[old], cache.table[old + 1]
        slot = pretoken_slot(low, high, shift)
        while table[(slot << _TWO) + _SIZES] != _FREE:
            slot = (slot + _ONE) & mask
        entry = slot << _TWO
        table[entry], table[entry + _HIGH] = low, high
        table[entry + _SIZES], table[entry + _IDS] = sizes, cache.table[old + 3]
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
    scanner: tuple[int, int],
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
    table, many_ids, long_bytes = cache.table, cache.many_ids, cache.long_bytes
    mask = np.uint64((table.shape[0] >> 2) - 1)
    written = progress[2]
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_pretokens(data, position, end, scanner, classes, table, buffers)
            for end_index in range(number):
                index = np.uint64(end_index)
                low, high, slot, length = lows[index], highs[index], slots[index], ends[index] - position
                sizes, ids = _FREE, _FREE
                while length <= _LONGEST_CACHED:
                    entry = slot << _TWO
                    sizes = load_acquire(table, entry + _SIZES)
                    ids = table[entry + _IDS]
                    if table[entry] == low and table[entry + _HIGH] == high and sizes & _BYTE == np.uint64(length):
                        if length <= PACKED or same_bytes(long_bytes, np.int64(ids >> _HALF), data, position, length):
                            break
                    elif sizes == _FREE:
                        break
                    slot = (slot + _ONE) & mask
                if sizes != _FREE:
                    made = np.int64(sizes >> _EIGHT & _BYTE)
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
