"""Encoding of UTF-8 text to token ids: known pre-tokens from a bounded cache, others by applying merges.

Threads share the cache. An entry is written once: the thread that finds it free reserves it, fills it in and finally
publishes it by writing the second half of its key. The caller replaces a cache that is full.

The table of the cache is uint64. A bucket of eight fields, one cache line, holds two entries of four fields:

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

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, Spans, Words
from bpe.kernels.machine.compiling import entry_point, kernel, rare_kernel, structure
from bpe.kernels.machine.operations import (
    add_and_fetch_old,
    copy_ids,
    load_acquire,
    prefetch,
    store_release,
    swap_if_equal,
)
from bpe.kernels.merging.applying import SHORT
from bpe.kernels.merging.long_pretokens import LONG, MergeArrays, encode_long_pretoken, encode_window, space_for
from bpe.kernels.merging.several_pretokens import (
    LONGEST_OF_SEVERAL,
    SEVERAL,
    Several,
    merge_several,
    several,
    take_symbols,
)
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.tables.hashing import PACKED, pretoken_key, pretoken_slot, same_bytes, slot_shift
from bpe.kernels.tables.pretokens import KEY_FIELDS, PretokenBuffers, find_entry, next_pretokens, pretoken_buffers

EXTRA_IDS = 4
"""Ids are stored four at a time, so arrays of ids need space for so many more."""

DONE, CACHE_FULL, BUFFER_FULL, MISSING_BYTE = 0, 1, 2, 3
_NO_SPACE, _MISSING = -(1 << 62), -1

_HIGH, _IDS, _SIZES = np.uint64(1), np.uint64(2), np.uint64(3)
_FREE, _RESERVED = np.uint64(0), np.uint64(1)
_UNKNOWN, _WITHOUT_ID = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFE)  # in the place of an entry
_TWO, _FOUR, _EIGHT_FIELDS = np.uint64(2), np.uint64(4), np.uint64(8)
_HALF, _NUMBER, _LENGTH, _INLINE = np.uint64(32), np.uint64(32), np.uint64(40), np.uint64(56)
_BYTE = np.uint64(0xFF)
GAPS = 64
"""New pre-tokens that are encoded together."""

_INLINE_IDS = 3
_LONGEST_CACHED = 64
LONGEST_RECORD = _LONGEST_CACHED + _LONGEST_CACHED // 4 + EXTRA_IDS
"""Elements of the longest record, and those read beyond it."""


class Cache(NamedTuple):
    """The ids of pre-tokens encoded before."""

    table: Words
    records: Ids
    record_bytes: Bytes
    """The memory of `records`."""
    used: Numbers
    """Numbers of entries and of elements of records in use: int64, shape (2,)."""


class Gaps(NamedTuple):
    """New pre-tokens whose ids are missing in the output so far: arrays of shape (GAPS,)."""

    starts: Numbers
    lengths: Numbers
    places: Numbers
    """The index in the output where the ids belong, and other ids stand now."""
    segments: Numbers
    """The number of spans before them."""
    lows: Words
    highs: Words
    entries: Words
    """Their entries in the cache, when they are encoded."""


class EncodingBuffers(NamedTuple):
    """Working memory of one thread."""

    pretokens: PretokenBuffers
    gaps: Gaps
    several: Several
    ids: Ids
    """The ids of one of several: uint32."""
    merging: Numbers
    """For merging any other pre-token: int64."""


def encoding_buffers(merging: int = 2 * SHORT) -> EncodingBuffers:
    """Return new working memory, for one thread, with so many elements for merging."""
    ids = np.empty(LONGEST_OF_SEVERAL + EXTRA_IDS, dtype=np.uint32)
    gaps = Gaps(*np.empty((4, GAPS), dtype=np.int64), *np.empty((3, GAPS), dtype=np.uint64))
    return EncodingBuffers(
        structure(pretoken_buffers()), structure(gaps), structure(several()), ids, np.empty(merging, dtype=np.int64)
    )


@kernel
def _whole_id(data: np.ndarray, start: int, length: int, merges: MergeArrays) -> np.int64:
    """Return the id of a pre-token that is a token without merging, or -1."""
    whole = merges.whole
    low, high = pretoken_key(data, start, length)
    first = pretoken_slot(low, high, slot_shift(whole.shape[0] >> 2)) * _FOUR
    entry = find_entry(data, start, length, low, high, first, whole, merges.whole_bytes)
    return np.int64(whole[entry + np.uint64(3)] if whole[entry + _HIGH] != _FREE else -1)


@rare_kernel
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
            return _MISSING
    return number


@kernel
def _has_space(cache: Cache) -> bool:
    """Return whether the cache has space for one more pre-token of any cacheable length."""
    # At most three quarters of the entries, of four fields each, may be in use.
    return (
        16 * (cache.used[0] + 1) <= 3 * cache.table.shape[0]
        and cache.used[1] + LONGEST_RECORD <= cache.records.shape[0]
    )


@kernel
def _is_in_record(data: np.ndarray, start: int, length: int, entry: np.uint64, cache: Cache) -> bool:
    """Return whether an entry with the key of a pre-token that is not its own key holds this pre-token."""
    sizes, record = cache.table[entry + _SIZES], np.int64(cache.table[entry + _IDS])
    return np.int64(sizes >> _LENGTH & _BYTE) == length and same_bytes(
        data, start, cache.record_bytes, 4 * (record + np.int64(sizes >> _NUMBER & _BYTE)), length
    )


@kernel
def _copy_record(entry: np.uint64, cache: Cache, out: np.ndarray, written: int) -> np.int64:
    """Write the ids of an entry with a record to `out` and return their number."""
    made, first = np.int64(cache.table[entry + _SIZES] >> _NUMBER & _BYTE), np.int64(cache.table[entry + _IDS])
    for offset in range(0, made, 4):
        copy_ids(out, written + offset, cache.records, first + offset)
    return made


@kernel
def _copy_ids(entry: np.uint64, cache: Cache, out: np.ndarray, written: int) -> np.int64:
    """Write the ids of any entry to `out` and return their number."""
    made = np.int64(cache.table[entry + _SIZES] >> _INLINE)
    if made == 0:
        return _copy_record(entry, cache, out, written)
    copy_ids(out, written, cache.table, entry + _IDS)
    return made


@rare_kernel
def _remember(
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
        The index of its entry, or `_UNKNOWN` if other threads used up the space.
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
            return _UNKNOWN
        for offset in range(number):
            cache.records[record + offset] = ids[offset]
        for offset in range(stored_bytes):
            cache.record_bytes[4 * (record + number) + offset] = data[start + offset]
        inline, field = 0, np.uint64(record)
    while True:
        key = load_acquire(table, entry + _HIGH)
        if key == _FREE and swap_if_equal(table, entry + _HIGH, _FREE, _RESERVED):
            break
        if key == _FREE:
            continue
        if (
            key == high
            and table[entry] == low
            and (length <= PACKED or _is_in_record(data, start, length, entry, cache))
        ):
            return entry
        entry = (entry + _FOUR) & mask
    table[entry], table[entry + _IDS] = low, field
    sizes = np.uint64(number) << _NUMBER | np.uint64(length) << _LENGTH | np.uint64(inline) << _INLINE
    table[entry + _SIZES] = third | sizes
    store_release(table, entry + _HIGH, high)
    add_and_fetch_old(cache.used, 0, 1)
    return entry


@kernel
def _find(data: np.ndarray, start: int, length: int, low: np.uint64, high: np.uint64, cache: Cache) -> np.uint64:
    """Return the index of the entry of a pre-token, or `_UNKNOWN`."""
    table, mask = cache.table, np.uint64(cache.table.shape[0] - 1)
    entry = pretoken_slot(low, high, slot_shift(table.shape[0] >> 3)) * _EIGHT_FIELDS
    while True:
        key = load_acquire(table, entry + _HIGH)
        if key == _FREE:
            return _UNKNOWN
        if (
            key == high
            and table[entry] == low
            and (length <= PACKED or _is_in_record(data, start, length, entry, cache))
        ):
            return entry
        entry = (entry + _FOUR) & mask


@rare_kernel
def _encode_other(
    data: np.ndarray,
    start: int,
    length: int,
    low: np.uint64,
    high: np.uint64,
    merges: MergeArrays,
    cache: Cache,
    buffer: np.ndarray,
    out: np.ndarray,
    written: int,
) -> np.int64:
    """Encode a pre-token that is not at the first entry with its key; return the number of its ids.

    `_NO_SPACE` means that the cache is full, other negative numbers are those of `_encode_pretoken`.
    """
    if length <= _LONGEST_CACHED:
        entry = _find(data, start, length, low, high, cache)
        if entry != _UNKNOWN:
            return _copy_ids(entry, cache, out, written)
    if not _has_space(cache):
        return np.int64(_NO_SPACE)
    made = np.int64(_encode_pretoken(data, start, length, merges, buffer, out, written))
    if made > 0 and length <= _LONGEST_CACHED:
        _remember(data, start, length, low, high, out[written : written + made], made, cache)
    return made


@kernel
def _encode_gaps(
    data: np.ndarray, number: int, merges: MergeArrays, cache: Cache, gaps: Gaps, several: Several, ids: np.ndarray
) -> None:
    """Encode the pre-tokens of the first `number` gaps, as far as there is space, and find their entries."""
    starts, lengths, _, _, lows, highs, entries = gaps
    count = 0
    for gap in range(number):
        entries[gap] = _find(data, starts[gap], lengths[gap], lows[gap], highs[gap], cache)
        if entries[gap] == _UNKNOWN:
            several.indices[count], several.starts[count], several.lengths[count] = gap, starts[gap], lengths[gap]
            count += 1
        if count == SEVERAL or (gap == number - 1 and count > 0):
            merge_several(data, count, merges, several)
            for which in range(count):
                made, index = take_symbols(which, several, ids), several.indices[which]
                highest = np.int64(0)
                for offset in range(made):
                    highest = max(highest, np.int64(ids[offset]))
                if highest >= merges.vocab_size:
                    entries[index] = _WITHOUT_ID
                elif _has_space(cache):
                    entries[index] = _remember(
                        data, starts[index], lengths[index], lows[index], highs[index], ids, made, cache
                    )
            count = 0


@rare_kernel
def _fill_gaps(
    data: np.ndarray,
    number: int,
    segment: int,
    merges: MergeArrays,
    cache: Cache,
    buffers: EncodingBuffers,
    progress: np.ndarray,
    written_at: np.ndarray,
    out: np.ndarray,
    written: int,
) -> np.int64:
    """Encode the pre-tokens of the first `number` gaps, and insert their ids into `out`.

    Args:
        data: The text.
        number: The number of gaps.
        segment: The number of spans passed by now, whose `written_at` is corrected.
        merges: The tokenizer.
        cache: The cache.
        buffers: Working memory with the gaps.
        progress: Receives where encoding stopped, if it did, as in `encode_spans`.
        written_at: As in `encode_spans`.
        out: As in `encode_spans`.
        written: The number of ids written, without the gaps.

    Returns:
        The number of ids written, or -CACHE_FULL or -MISSING_BYTE.
    """
    gaps = buffers.gaps
    _encode_gaps(data, number, merges, cache, gaps, buffers.several, buffers.ids)
    filled, moved = 0, 0
    while filled < number and gaps.entries[filled] < _WITHOUT_ID:
        gaps.lengths[filled] = np.int64(cache.table[gaps.entries[filled] + _SIZES] >> _NUMBER & _BYTE)  # now in ids
        moved += gaps.lengths[filled]
        filled += 1
    end = written if filled == number else gaps.places[filled]
    result = np.int64(end + moved)
    if filled < number:
        progress[0], progress[1], progress[2] = gaps.segments[filled], gaps.starts[filled], result
        result = np.int64(-CACHE_FULL if gaps.entries[filled] == _UNKNOWN else -MISSING_BYTE)
    gap, before = 0, 0
    for passed in range(gaps.segments[0], segment):
        while gap < filled and gaps.segments[gap] <= passed:
            before += gaps.lengths[gap]
            gap += 1
        written_at[passed] += before
    for back in range(1, filled + 1):
        gap = filled - back
        begin, made = gaps.places[gap], gaps.lengths[gap]
        while end - begin >= 4:
            end -= 4
            copy_ids(out, end + moved, out, end)
        while end > begin:
            end -= 1
            out[end + moved] = out[end]
        moved -= made
        _copy_ids(gaps.entries[gap], cache, buffers.ids, 0)  # which writes four at a time
        for offset in range(made):
            out[begin + moved + offset] = buffers.ids[offset]
        end = begin
    return result


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
        table[entry + _IDS], table[entry + _SIZES] = cache.table[old + 2], cache.table[old + 3]
        larger.used[0] += 1
    # The records that moved entries refer to were written before those entries.
    larger.used[1] = min(cache.used[1], cache.records.shape[0])
    for index in range(larger.used[1]):
        larger.records[index] = cache.records[index]


@entry_point
def encode_spans(
    data: Bytes,
    spans: Spans,
    special_ids: Numbers,
    scanner: Scanner,
    classes: Bytes,
    merges: MergeArrays,
    cache: Cache,
    buffers: EncodingBuffers,
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
        buffers: Working memory.
        progress: Where to begin, and where encoding stopped: int64, spans passed, position, ids written, and the size
            of the buffer `merging` that is needed.
        written_at: Receives the number of ids written up to and including each span: int64, shape (n,).
        out: Receives the ids.

    Returns:
        DONE; CACHE_FULL or BUFFER_FULL (call again with another one); or MISSING_BYTE, in the pre-token at
        `progress[1]`.
    """
    ends, keys = buffers.pretokens
    gaps, table = buffers.gaps, cache.table
    mask = np.uint64(table.shape[0] - 1)
    # A pre-token with an id of its own needs no merges.
    longest_new = LONGEST_OF_SEVERAL if merges.whole.shape[0] == 0 else -1
    written, new, records = progress[2], 0, 0
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_pretokens(data, position, end, scanner, classes, table, 8, buffers.pretokens)
            if 8 * records > number:  # of the last pre-tokens; so many of the next ones are likely to have one
                for end_index in range(number):
                    entry = keys[np.uint64(end_index) * KEY_FIELDS + _TWO]
                    if table[entry + _SIZES] >> _INLINE == _FREE:
                        prefetch(cache.records, np.int64(table[entry + _IDS]))
            records = 0
            for end_index in range(number):
                index, at = np.uint64(end_index), np.uint64(end_index) * KEY_FIELDS
                low, high, entry = keys[at], keys[at + _HIGH], keys[at + _TWO]
                key = load_acquire(table, entry + _HIGH)  # both entries of a bucket are in one cache line
                while key != _FREE and (key != high or table[entry] != low):
                    entry = (entry + _FOUR) & mask
                    key = load_acquire(table, entry + _HIGH)
                made = np.int64(0)
                if key != _FREE:
                    made = np.int64(table[entry + _SIZES] >> _INLINE)
                    copy_ids(out, written, table, entry + _IDS)
                if made == 0:
                    start = ends[end_index - 1] if end_index > 0 else position
                    length = ends[index] - start
                    if key == _FREE and length <= longest_new:
                        gaps.starts[new], gaps.lengths[new], gaps.places[new] = start, length, written
                        gaps.segments[new], gaps.lows[new], gaps.highs[new] = segment, low, high
                        new += 1
                        if new < GAPS:
                            continue
                    elif key != _FREE and (length <= PACKED or _is_in_record(data, start, length, entry, cache)):
                        made = _copy_record(entry, cache, out, written)
                        records += 1
                    else:
                        made = _encode_other(
                            data, start, length, low, high, merges, cache, buffers.merging, out, written
                        )
                    if made <= 0:
                        if new > 0:
                            written = _fill_gaps(
                                data, new, segment, merges, cache, buffers, progress, written_at, out, written
                            )
                            if written < 0:
                                return -written
                            new = 0
                        if made < 0:
                            progress[0], progress[1], progress[2], progress[3] = segment, start, written, -made
                            return (
                                CACHE_FULL if made == _NO_SPACE else MISSING_BYTE if made == _MISSING else BUFFER_FULL
                            )
                written += made
            position = ends[number - 1]
        if segment < spans.shape[0]:
            if special_ids[spans[segment, 2]] >= 0:
                out[written] = special_ids[spans[segment, 2]]
                written += 1
            written_at[segment] = written
            progress[1] = spans[segment, 1]
    if new > 0:
        written = _fill_gaps(data, new, spans.shape[0], merges, cache, buffers, progress, written_at, out, written)
        if written < 0:
            return -written
    progress[2] = written
    return DONE
