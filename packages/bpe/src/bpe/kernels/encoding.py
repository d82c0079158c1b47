"""Encoding UTF-8 text to token ids: pieces from a bounded cache, the others by applying merges.

The cache is uint64 of shape (capacity, 4): key, length in bytes (0: free) with the number of ids in the upper half, up
to two ids or where more of them lie, where the bytes of pieces over eight bytes lie.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.boundaries import piece_end
from bpe.kernels.compiling import kernel
from bpe.kernels.hashing import PACKED, first_slot, piece_key, same_bytes

_KEY, _SIZES, _IDS, _BYTES = 0, 1, 2, 3
_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
_NO_RULE = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_SHORT = 48
_LONGEST_CACHED = 64
_DEAD = -1


@kernel
def build_rules(pairs: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash table of merge rules, keys and values: uint64, shape (power of two,).

    `pairs` (int64, rules x 2) are left and right symbols, `outcomes` (int64, rules x 2) rank and product; a value is
    the rank in the upper and the product in the lower half.
    """
    capacity = 16
    while capacity < 2 * pairs.shape[0]:
        capacity *= 2
    keys = np.full(capacity, _FREE, dtype=np.uint64)
    values = np.full(capacity, _NO_RULE, dtype=np.uint64)
    for rule in range(pairs.shape[0]):
        key = np.uint64(pairs[rule, 0]) << _HALF | np.uint64(pairs[rule, 1])
        slot = first_slot(key, 0, capacity)
        while keys[slot] != _FREE:
            slot = (slot + _ONE) & np.uint64(capacity - 1)
        keys[slot] = key
        values[slot] = np.uint64(outcomes[rule, 0]) << _HALF | np.uint64(outcomes[rule, 1])
    return keys, values


@kernel
def _rule(left: int, right: int, keys: np.ndarray, values: np.ndarray) -> np.uint64:
    """Return the rule (rank and product, uint64) for two symbols, or the greatest number if there is none."""
    key = np.uint64(left) << _HALF | np.uint64(right)
    slot = first_slot(key, 0, keys.shape[0])
    while keys[slot] != key:
        if keys[slot] == _FREE:
            return _NO_RULE
        slot = (slot + _ONE) & np.uint64(keys.shape[0] - 1)
    return values[slot]


@kernel
def _merge_short(symbols: np.ndarray, length: int, keys: np.ndarray, values: np.ndarray, rules: np.ndarray) -> int:
    """Apply merges to the first `length` symbols in place, lowest rank first; return how many are left."""
    for index in range(length - 1):
        rules[index] = _rule(symbols[index], symbols[index + 1], keys, values)
    while length > 1:
        best = 0
        for index in range(1, length - 1):
            # Ranks are compared in whole rules: the same rank has the same product.
            if rules[index] < rules[best]:
                best = index
        if rules[best] == _NO_RULE:
            break
        symbols[best] = np.int64(rules[best] & _LOW)
        length -= 1
        for index in range(best + 1, length):
            symbols[index] = symbols[index + 1]
            rules[index - 1] = rules[index]
        if best > 0:
            rules[best - 1] = _rule(symbols[best - 1], symbols[best], keys, values)
        if best < length - 1:
            rules[best] = _rule(symbols[best], symbols[best + 1], keys, values)
    return length


@kernel
def _push(heap: np.ndarray, size: int, item: int) -> None:
    """Enter `item` into a heap of `size` with the least on top."""
    place = size
    while place > 0 and heap[(place - 1) >> 1] > item:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = item


@kernel
def _drop_top(heap: np.ndarray, size: int) -> None:
    """Remove the top of a heap of `size`."""
    item = heap[size - 1]
    place = 0
    while 2 * place + 1 < size - 1:
        child = 2 * place + 1
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item


@kernel
def _merge_long(symbols: np.ndarray, length: int, keys: np.ndarray, values: np.ndarray) -> int:
    """Do what `_merge_short` does in time proportional to n log n, with a heap of ranks and linked symbols."""
    after = np.arange(1, length + 1)
    before = np.arange(-1, length - 1)
    rules = np.full(length, _NO_RULE, dtype=np.uint64)
    heap = np.empty(3 * length, dtype=np.uint64)
    size = 0
    for index in range(length - 1):
        rules[index] = _rule(symbols[index], symbols[index + 1], keys, values)
        if rules[index] != _NO_RULE:
            _push(heap, size, (rules[index] & ~_LOW) | np.uint64(index))
            size += 1
    while size > 0:
        rank, place = heap[0] & ~_LOW, np.int64(heap[0] & _LOW)
        _drop_top(heap, size)
        size -= 1
        if rules[place] == _NO_RULE or rules[place] & ~_LOW != rank:
            continue  # one of the two symbols has been merged with another one since
        partner = after[place]
        symbols[place] = np.int64(rules[place] & _LOW)
        symbols[partner] = _DEAD
        rules[partner] = _NO_RULE
        rules[place] = _NO_RULE
        following = after[partner]
        after[place] = following
        if following < length:
            before[following] = place
            rules[place] = _rule(symbols[place], symbols[following], keys, values)
            if rules[place] != _NO_RULE:
                _push(heap, size, (rules[place] & ~_LOW) | np.uint64(place))
                size += 1
        previous = before[place]
        if previous >= 0:
            rules[previous] = _rule(symbols[previous], symbols[place], keys, values)
            if rules[previous] != _NO_RULE:
                _push(heap, size, (rules[previous] & ~_LOW) | np.uint64(previous))
                size += 1
    kept = 0
    for index in range(length):
        if symbols[index] != _DEAD:
            symbols[kept] = symbols[index]
            kept += 1
    return kept


@kernel
def _merge_piece(
    data: np.ndarray,
    start: int,
    length: int,
    keys: np.ndarray,
    values: np.ndarray,
    symbol_ids: np.ndarray,
    out: np.ndarray,
    written: int,
) -> int:
    """Encode one piece into `out` from `written` on; return its number of ids, or -1 when a byte has no id."""
    symbols = np.empty(length, dtype=np.int64)
    for offset in range(length):
        symbols[offset] = data[start + offset]
    if length <= _SHORT:
        length = _merge_short(symbols, length, keys, values, np.empty(length, dtype=np.uint64))
    else:
        length = _merge_long(symbols, length, keys, values)
    for index in range(length):
        if symbol_ids[symbols[index]] < 0:
            return -1
        out[written + index] = symbol_ids[symbols[index]]
    return length


@kernel
def _remember(
    data: np.ndarray,
    start: int,
    length: int,
    key: int,
    ids: np.ndarray,
    cache: np.ndarray,
    many_ids: np.ndarray,
    long_bytes: np.ndarray,
    state: np.ndarray,
) -> None:
    """Enter a piece and its ids into the cache, which is emptied first when it is full."""
    stored_ids = ids.shape[0] if ids.shape[0] > 2 else 0
    stored_bytes = length if length > PACKED else 0
    if (
        4 * (state[0] + 1) > 3 * cache.shape[0]
        or state[1] + stored_ids > many_ids.shape[0]
        or state[2] + stored_bytes > long_bytes.shape[0]
    ):
        cache[:] = 0
        state[:] = 0
    slot = first_slot(key, length, cache.shape[0])
    while cache[slot, _SIZES] != 0:
        slot = (slot + _ONE) & np.uint64(cache.shape[0] - 1)
    cache[slot, _KEY] = key
    cache[slot, _SIZES] = np.uint64(ids.shape[0]) << _HALF | np.uint64(length)
    if stored_ids:
        cache[slot, _IDS] = np.uint64(state[1])
        many_ids[state[1] : state[1] + stored_ids] = ids
    else:
        cache[slot, _IDS] = np.uint64(ids[0]) | np.uint64(ids[ids.shape[0] - 1]) << _HALF
    cache[slot, _BYTES] = np.uint64(state[2])
    for offset in range(stored_bytes):
        long_bytes[state[2] + offset] = data[start + offset]
    state[0] += 1
    state[1] += stored_ids
    state[2] += stored_bytes


@kernel
def encode_segments(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    special_ids: np.ndarray,
    classes: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    symbol_ids: np.ndarray,
    cache: np.ndarray,
    many_ids: np.ndarray,
    long_bytes: np.ndarray,
    state: np.ndarray,
    out: np.ndarray,
) -> int:
    """Encode the segments of `data` into `out` (uint32), each followed by its special id unless that is negative.

    Returns the number of ids written, or -1 - position of a piece that has a byte without an id.
    """
    written = 0
    mask = np.uint64(cache.shape[0] - 1)
    for segment in range(starts.shape[0]):
        position = starts[segment]
        end = ends[segment]
        while position < end:
            stop = piece_end(data, position, end, classes)
            length = stop - position
            key = piece_key(data, position, length)
            slot = first_slot(key, length, cache.shape[0])
            known = False
            while length <= _LONGEST_CACHED and cache[slot, _SIZES] != 0:
                if (
                    cache[slot, _KEY] == key
                    and cache[slot, _SIZES] & _LOW == np.uint64(length)
                    and (
                        length <= PACKED
                        or same_bytes(long_bytes, np.int64(cache[slot, _BYTES]), data, position, length)
                    )
                ):
                    known = True
                    break
                slot = (slot + _ONE) & mask
            if known:
                remembered = np.int64(cache[slot, _SIZES] >> _HALF)
                ids = cache[slot, _IDS]
                if remembered <= 2:
                    out[np.uint64(written)] = np.uint32(ids & _LOW)
                    if remembered == 2:
                        out[np.uint64(written + 1)] = np.uint32(ids >> _HALF)
                else:
                    for index in range(remembered):
                        out[np.uint64(written + index)] = many_ids[ids + np.uint64(index)]
                written += int(remembered)
            else:
                made = _merge_piece(data, position, length, keys, values, symbol_ids, out, written)
                if made < 0:
                    return -1 - position
                if length <= _LONGEST_CACHED:
                    ids_of_piece = out[written : written + made]
                    _remember(data, position, length, key, ids_of_piece, cache, many_ids, long_bytes, state)
                written += made
            position = stop
        if special_ids[segment] >= 0:
            out[written] = special_ids[segment]
            written += 1
    return written
