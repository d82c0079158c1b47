"""Applying merges to one piece, the lowest rank first.

A rule is one uint64: left symbol in 21 bits, right symbol in 21 bits, rank in 22 bits; a flat table of them is searched
by the symbols. The product of the merge of rank r is `products[r]`.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.tables.hashing import pair_slot

SYMBOL_BITS, RANK_BITS = 21, 22
SHORT = 48
"""Pieces of up to so many bytes are merged by looking for the lowest rank again and again."""

_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_LEFT, _RIGHT = np.uint64(SYMBOL_BITS + RANK_BITS), np.uint64(RANK_BITS)
_RANK = np.uint64((1 << RANK_BITS) - 1)
_NO_RANK = (1 << RANK_BITS) - 1
_DEAD = -1


@kernel
def build_rules(lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """Return the table of merge rules: uint64, shape (power of two,).

    `lefts` and `rights` (int64) are the symbols of each merge by its rank; of equal pairs the first counts.
    """
    capacity = 16
    while capacity < 2 * lefts.shape[0]:
        capacity *= 2
    table = np.full(capacity, _FREE, dtype=np.uint64)
    for rank in range(lefts.shape[0]):
        pair = np.uint64(lefts[rank]) << _LEFT | np.uint64(rights[rank]) << _RIGHT
        slot = pair_slot(pair, capacity)
        while table[slot] != _FREE and table[slot] & ~_RANK != pair:
            slot = (slot + _ONE) & np.uint64(capacity - 1)
        if table[slot] == _FREE:
            table[slot] = pair | np.uint64(rank)
    return table


@kernel
def _rank(left: int, right: int, rules: np.ndarray) -> np.int64:
    """Return the rank of the merge of two symbols, or `_NO_RANK`."""
    pair = np.uint64(left) << _LEFT | np.uint64(right) << _RIGHT
    slot = pair_slot(pair, rules.shape[0])
    while rules[slot] & ~_RANK != pair:
        if rules[slot] == _FREE:
            return np.int64(_NO_RANK)
        slot = (slot + _ONE) & np.uint64(rules.shape[0] - 1)
    return np.int64(rules[slot] & _RANK)


@kernel
def merge_short(symbols: np.ndarray, ranks: np.ndarray, length: int, rules: np.ndarray, products: np.ndarray) -> int:
    """Merge the first `length` of `symbols` in place, and return how many are left; `ranks` is room for as many."""
    for index in range(length - 1):
        ranks[index] = _rank(symbols[index], symbols[index + 1], rules)
    while length > 1:
        best, place = ranks[0], 0
        for index in range(1, length - 1):
            if ranks[index] < best:
                best, place = ranks[index], index
        if best == _NO_RANK:
            break
        symbols[place] = products[best]
        length -= 1
        for index in range(place + 1, length):
            symbols[index] = symbols[index + 1]
            ranks[index - 1] = ranks[index]
        if place > 0:
            ranks[place - 1] = _rank(symbols[place - 1], symbols[place], rules)
        if place < length - 1:
            ranks[place] = _rank(symbols[place], symbols[place + 1], rules)
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
def merge_long(symbols: np.ndarray, length: int, rules: np.ndarray, products: np.ndarray) -> int:
    """Do what `merge_short` does in time proportional to n log n, with a heap of ranks and linked symbols."""
    after = np.arange(1, length + 1)
    before = np.arange(-1, length - 1)
    ranks = np.full(length, _NO_RANK, dtype=np.int64)
    heap = np.empty(3 * length, dtype=np.int64)  # rank and place: the lowest rank and, of equal ones, the leftmost
    size = 0
    for index in range(length - 1):
        ranks[index] = _rank(symbols[index], symbols[index + 1], rules)
        if ranks[index] != _NO_RANK:
            _push(heap, size, ranks[index] << 40 | index)
            size += 1
    while size > 0:
        place, rank = heap[0] & ((1 << 40) - 1), heap[0] >> 40
        _drop_top(heap, size)
        size -= 1
        if ranks[place] != rank:
            continue  # one of the two has been merged with another one since
        right = after[place]
        symbols[place] = products[rank]
        symbols[right] = _DEAD
        ranks[place] = ranks[right] = _NO_RANK
        following = after[right]
        after[place] = following
        if following < length:
            before[following] = place
            ranks[place] = _rank(symbols[place], symbols[following], rules)
            if ranks[place] != _NO_RANK:
                _push(heap, size, ranks[place] << 40 | place)
                size += 1
        previous = before[place]
        if previous >= 0:
            ranks[previous] = _rank(symbols[previous], symbols[place], rules)
            if ranks[previous] != _NO_RANK:
                _push(heap, size, ranks[previous] << 40 | previous)
                size += 1
    left = 0
    for index in range(length):
        if symbols[index] != _DEAD:
            symbols[left] = symbols[index]
            left += 1
    return left
