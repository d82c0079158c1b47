"""Encoding UTF-8 text to token ids: pieces from a bounded cache, the others by applying merges.

The cache is uint64 of shape (4 * capacity,), four words for each slot: two of the key; sizes (length of the piece in 8
bits, 0: free; number of its ids in 8 bits) with the first id in the upper half; two more ids. If there are more ids, or
the piece is not its own key, the last word is where its ids lie, in the lower half, and where its bytes lie.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.boundaries import ENDS, next_ends
from bpe.kernels.compiling import kernel
from bpe.kernels.counting import entry_of
from bpe.kernels.hashing import PACKED, piece_key, piece_slot, same_bytes, slot_shift
from bpe.kernels.piece_merging import SHORT, merge_long, merge_short
from bpe.kernels.vectors import BLOCK, prefetch, store_ids

ROOM = 4
"""Ids are stored four at a time, so that arrays of ids need room for so many more."""

DONE, CACHE_FULL, MISSING_BYTE = 0, 1, 2

_HIGH, _SIZES, _IDS = np.uint64(1), np.uint64(2), np.uint64(3)
_FREE = np.uint64(0)
_ONE, _TWO = np.uint64(1), np.uint64(2)
_EIGHT, _HALF = np.uint64(8), np.uint64(32)
_BYTE, _LOW_HALF = np.uint64(0xFF), np.uint64(0xFFFFFFFF)
_INLINE_IDS = 3
_LONGEST_CACHED = 64


class Rules(NamedTuple):
    """What encoding takes of a tokenizer, read only."""

    table: np.ndarray
    """Merges, as `build_rules` makes them."""
    products: np.ndarray
    """The symbol each merge makes: int32, shape (merges,)."""
    symbol_ids: np.ndarray
    """The id of each symbol, -1 for none: int64, shape (symbols,)."""
    whole: np.ndarray
    """Pieces that have an id without merging: a table of `bpe.kernels.counting` with ids as counts, or of length 0."""
    whole_bytes: np.ndarray
    """Its arena."""


class Cache(NamedTuple):
    """What a thread remembers and works with."""

    table: np.ndarray
    many_ids: np.ndarray
    long_bytes: np.ndarray
    used: np.ndarray
    """Slots, ids and bytes in use: int64, shape (3,)."""
    symbols: np.ndarray
    """Room for merging short pieces: int64, shape (2, SHORT)."""


@kernel
def _whole_id(data: np.ndarray, start: int, length: int, whole: np.ndarray, whole_bytes: np.ndarray) -> np.int64:
    """Return the id of a piece that has one without merging, or -1."""
    low, high = piece_key(data, start, length)
    slot = piece_slot(low, high, slot_shift(whole.shape[0] >> 2))
    entry = entry_of(data, start, length, low, high, slot, whole, whole_bytes)
    return np.int64(whole[entry + np.uint64(3)] if whole[entry + _TWO] != _FREE else -1)


@kernel
def _encode_piece(
    data: np.ndarray, start: int, length: int, rules: Rules, room: np.ndarray, out: np.ndarray, written: int
) -> int:
    """Encode one piece into `out` from `written` on; return its number of ids, or -1 when a byte has no id."""
    if rules.whole.shape[0] > 0:
        id_ = _whole_id(data, start, length, rules.whole, rules.whole_bytes)
        if id_ >= 0:
            out[written] = id_
            return 1
    if length <= SHORT:
        symbols = room[0]
        for offset in range(length):
            symbols[offset] = data[start + offset]
        length = merge_short(symbols, room[1], length, rules.table, rules.products)
    else:
        symbols = np.empty(length, dtype=np.int64)
        for offset in range(length):
            symbols[offset] = data[start + offset]
        length = merge_long(symbols, length, rules.table, rules.products)
    for index in range(length):
        if rules.symbol_ids[symbols[index]] < 0:
            return -1
        out[written + index] = rules.symbol_ids[symbols[index]]
    return length


@kernel
def _has_room(ids: int, bytes_: int, cache: Cache) -> bool:
    """Say whether the cache has room for a piece of which so many ids and bytes are stored apart."""
    return (
        16 * (cache.used[0] + 1) <= 3 * cache.table.shape[0]
        and cache.used[1] + ids <= cache.many_ids.shape[0]
        and cache.used[2] + bytes_ <= cache.long_bytes.shape[0]
    )


@kernel
def _remember(
    data: np.ndarray, start: int, length: int, low: np.uint64, high: np.uint64, ids: np.ndarray, cache: Cache
) -> None:
    """Enter a piece, which is not there, and its ids into the cache, which is emptied first when it is full."""
    number = ids.shape[0]
    apart = number > _INLINE_IDS or length > PACKED
    stored_bytes = length if length > PACKED else 0
    used = cache.used
    if not _has_room(number if apart else 0, stored_bytes, cache):
        cache.table[:] = 0
        used[:] = 0
    mask = np.uint64((cache.table.shape[0] >> 2) - 1)
    slot = piece_slot(low, high, slot_shift(cache.table.shape[0] >> 2))
    while cache.table[(slot << _TWO) + _SIZES] != _FREE:
        slot = (slot + _ONE) & mask
    entry = slot << _TWO
    cache.table[entry], cache.table[entry + _HIGH] = low, high
    cache.table[entry + _SIZES] = np.uint64(length) | np.uint64(number) << _EIGHT | np.uint64(ids[0]) << _HALF
    if apart:
        cache.table[entry + _IDS] = np.uint64(used[1]) | np.uint64(used[2]) << _HALF
        cache.many_ids[used[1] : used[1] + number] = ids
        for offset in range(stored_bytes):
            cache.long_bytes[used[2] + offset] = data[start + offset]
        used[1] += number
        used[2] += stored_bytes
    else:
        cache.table[entry + _IDS] = np.uint64(ids[min(1, number - 1)]) | np.uint64(ids[number - 1]) << _HALF
    used[0] += 1


@kernel
def encode_spans(
    data: np.ndarray,
    spans: np.ndarray,
    special_ids: np.ndarray,
    classes: np.ndarray,
    rules: Rules,
    cache: Cache,
    may_grow: bool,
    progress: np.ndarray,
    written_at: np.ndarray,
    out: np.ndarray,
) -> int:
    """Encode `data`, valid UTF-8, into `out` (uint32, room for a token for each byte and `ROOM` more).

    Args:
        data: uint8, read only.
        spans: Where special tokens lie, int64 of shape (n, 3); the last column is an index into `special_ids`.
        special_ids: int64; negative for a mere border between texts.
        classes: The table of `bpe.unicode_classes`.
        rules: The tokenizer.
        cache: What this thread remembers.
        may_grow: Whether to return when the cache is full; otherwise it is emptied.
        progress: Where to begin and where it stopped: int64, number of spans behind it, position, ids written.
        written_at: Gets the number of ids written after each span: int64, shape (n,).
        out: Gets the ids.

    Returns:
        DONE, CACHE_FULL (enlarge it and call again) or MISSING_BYTE, of the piece at `progress[1]`.
    """
    ends, tail = np.empty(ENDS, dtype=np.int64), np.zeros(2 * BLOCK, dtype=np.uint8)
    lows, highs, slots = np.empty((3, ENDS), dtype=np.uint64)
    table, many_ids, long_bytes = cache.table, cache.many_ids, cache.long_bytes
    mask = np.uint64((table.shape[0] >> 2) - 1)
    shift = slot_shift(table.shape[0] >> 2)
    written = progress[2]
    for segment in range(progress[0], spans.shape[0] + 1):
        position = progress[1]
        end = spans[segment, 0] if segment < spans.shape[0] else data.shape[0]
        while position < end:
            number = next_ends(data, position, end, classes, ends, tail)
            start = position
            for index in range(number):
                place = np.uint64(index)
                lows[place], highs[place] = piece_key(data, start, ends[place] - start)
                slots[place] = piece_slot(lows[place], highs[place], shift)
                prefetch(table, slots[place] << _TWO)
                start = ends[place]
            for index in range(number):
                place = np.uint64(index)
                low, high, slot, length = lows[place], highs[place], slots[place], ends[place] - position
                sizes, ids = _FREE, _FREE
                while length <= _LONGEST_CACHED:
                    entry = slot << _TWO
                    sizes, ids = table[entry + _SIZES], table[entry + _IDS]
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
                    if may_grow and not _has_room(_LONGEST_CACHED, _LONGEST_CACHED, cache):
                        progress[0], progress[1], progress[2] = segment, position, written
                        return CACHE_FULL
                    made = _encode_piece(data, position, length, rules, cache.symbols, out, written)
                    if made < 0:
                        progress[0], progress[1], progress[2] = segment, position, written
                        return MISSING_BYTE
                    if length <= _LONGEST_CACHED:
                        _remember(data, position, length, low, high, out[written : written + made], cache)
                written += made
                position = ends[place]
        if segment < spans.shape[0]:
            if special_ids[spans[segment, 2]] >= 0:
                out[written] = special_ids[spans[segment, 2]]
                written += 1
            written_at[segment] = written
            progress[1] = spans[segment, 1]
    progress[2] = written
    return DONE
