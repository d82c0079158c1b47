"""Encoding of UTF-8 text to token ids: known pre-tokens from the cache, others by applying merges.

The ids of a new pre-token are left out at first. When there are enough such gaps, their pre-tokens are encoded in turns
and remembered, and their ids are inserted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, Spans, Words
from bpe.kernels.machine.compiling import entry_point, kernel, rare_kernel, structure
from bpe.kernels.machine.operations import (
    copy_ids,
    load_acquire,
    prefetch,
)
from bpe.kernels.merging.applying import SHORT
from bpe.kernels.merging.cache import (
    EXTRA_IDS,
    FREE,
    HIGH,
    IDS,
    INLINE,
    LONGEST_CACHED,
    SIZES,
    UNKNOWN,
    Cache,
    copy_entry,
    copy_record,
    find_pretoken,
    has_space,
    is_in_record,
    number_of_ids,
    remember,
)
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
from bpe.kernels.tables.hashing import PACKED, pretoken_key, pretoken_slot, slot_shift
from bpe.kernels.tables.pretokens import KEY_FIELDS, PretokenBuffers, find_entry, next_pretokens, pretoken_buffers

DONE, CACHE_FULL, BUFFER_FULL, MISSING_BYTE = 0, 1, 2, 3
_NO_SPACE, _MISSING = -(1 << 62), -1

_TWO, _FOUR = np.uint64(2), np.uint64(4)
_WITHOUT_ID = np.uint64(0xFFFFFFFFFFFFFFFE)  # in the place of an entry

GAPS = 64
"""New pre-tokens that are encoded together."""


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
    return np.int64(whole[entry + np.uint64(3)] if whole[entry + HIGH] != FREE else -1)


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
    if length <= LONGEST_CACHED:
        entry = find_pretoken(data, start, length, low, high, cache)
        if entry != UNKNOWN:
            return copy_entry(entry, cache, out, written)
    if not has_space(cache):
        return np.int64(_NO_SPACE)
    made = np.int64(_encode_pretoken(data, start, length, merges, buffer, out, written))
    if made > 0 and length <= LONGEST_CACHED:
        remember(data, start, length, low, high, out[written : written + made], made, cache)
    return made


@kernel
def _encode_gaps(
    data: np.ndarray, number: int, merges: MergeArrays, cache: Cache, gaps: Gaps, several: Several, ids: np.ndarray
) -> None:
    """Encode the pre-tokens of the first `number` gaps, as far as there is space, and find their entries."""
    starts, lengths, _, _, lows, highs, entries = gaps
    count = 0
    for gap in range(number):
        entries[gap] = find_pretoken(data, starts[gap], lengths[gap], lows[gap], highs[gap], cache)
        if entries[gap] == UNKNOWN:
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
                elif has_space(cache):
                    entries[index] = remember(
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
        gaps.lengths[filled] = number_of_ids(gaps.entries[filled], cache)  # from now on in ids
        moved += gaps.lengths[filled]
        filled += 1
    end = written if filled == number else gaps.places[filled]
    result = np.int64(end + moved)
    if filled < number:
        progress[0], progress[1], progress[2] = gaps.segments[filled], gaps.starts[filled], result
        result = np.int64(-CACHE_FULL if gaps.entries[filled] == UNKNOWN else -MISSING_BYTE)
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
        copy_entry(gaps.entries[gap], cache, buffers.ids, 0)  # which writes four at a time
        for offset in range(made):
            out[begin + moved + offset] = buffers.ids[offset]
        end = begin
    return result


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
                    if table[entry + SIZES] >> INLINE == FREE:
                        prefetch(cache.records, np.int64(table[entry + IDS]))
            records = 0
            for end_index in range(number):
                index, at = np.uint64(end_index), np.uint64(end_index) * KEY_FIELDS
                low, high, entry = keys[at], keys[at + HIGH], keys[at + _TWO]
                key = load_acquire(table, entry + HIGH)  # both entries of a bucket are in one cache line
                while key != FREE and (key != high or table[entry] != low):
                    entry = (entry + _FOUR) & mask
                    key = load_acquire(table, entry + HIGH)
                made = np.int64(0)
                if key != FREE:
                    made = np.int64(table[entry + SIZES] >> INLINE)
                    copy_ids(out, written, table, entry + IDS)
                if made == 0:
                    start = ends[end_index - 1] if end_index > 0 else position
                    length = ends[index] - start
                    if key == FREE and length <= longest_new:
                        gaps.starts[new], gaps.lengths[new], gaps.places[new] = start, length, written
                        gaps.segments[new], gaps.lows[new], gaps.highs[new] = segment, low, high
                        new += 1
                        if new < GAPS:
                            continue
                    elif key != FREE and (length <= PACKED or is_in_record(data, start, length, entry, cache)):
                        made = copy_record(entry, cache, out, written)
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
