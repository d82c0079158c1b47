"""Application of merges to one pre-token, the lowest rank first.

A merge is one uint64: left symbol in 21 bits, right symbol in 21 bits, rank in 22 bits. `ranks` is a hash table of
merges that is searched by the two symbols. Its buckets of eight merges are cache lines, which are filled from the first
element on; a bucket is searched at once. The merge of rank r makes the symbol `merged[r]`.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Numbers, Words, zeros
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import equal_words, trailing_zeros

SYMBOL_BITS, RANK_BITS = 21, 22
SHORT = 48
"""Pre-tokens of at most this many bytes are merged by repeated search for the lowest rank."""

NO_RANK = (1 << RANK_BITS) - 1

_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE, _ONE, _SEVEN, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(7), np.uint64(8)
_BUCKET_BITS, _HASHED, _GOLDEN = np.uint64(3), np.uint64(43), np.uint64(0x9E3779B97F4A7C15)
_LEFT, _RIGHT = np.uint64(SYMBOL_BITS + RANK_BITS), np.uint64(RANK_BITS)
_RANK = np.uint64((1 << RANK_BITS) - 1)
_DEAD = -1
_OFFSET_BITS, _OFFSET = 6, 63  # of a byte in a short pre-token
_INDEX_BITS = 40
_INDEX = (1 << _INDEX_BITS) - 1


@entry_point
def insert_ranks(lefts: Numbers, rights: Numbers, table: Words) -> None:
    """Insert merges into an empty table: the symbols of each by rank; of equal pairs the first counts."""
    mask = np.uint64(table.shape[0] - 1)
    for rank in range(lefts.shape[0]):
        pair = merge_pair(lefts[rank], rights[rank])
        slot = bucket_of(pair, table)
        while table[slot] != _FREE and table[slot] & ~_RANK != pair:
            slot = (slot + _ONE) & mask
        if table[slot] == _FREE:
            table[slot] = pair | np.uint64(rank)


def rank_table(lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """Return the hash table of merges, at most half full: uint64, shape (power of two,).

    `lefts` and `rights` (int64) are the symbols of each merge by rank.
    """
    table = zeros(1 << max(4, (2 * len(lefts) - 1).bit_length()), "uint64", at_once=True)
    table.fill(_FREE)
    insert_ranks(lefts, rights, table)
    return table


def byte_rank_table(lefts: np.ndarray, rights: np.ndarray, byte_symbols: np.ndarray) -> np.ndarray:
    """Return the rank of the merge of each pair of bytes, at the index 256 * first byte + second: int32, (65536,)."""
    byte_of = np.full(1 + max(byte_symbols.max(), lefts.max(initial=0), rights.max(initial=0)), -1)
    byte_of[byte_symbols] = np.arange(256)
    first, second = byte_of[lefts], byte_of[rights]
    ranks = np.flatnonzero((first >= 0) & (second >= 0))[::-1]  # of equal pairs the first counts
    table = np.full(1 << 16, NO_RANK, dtype=np.int32)
    table[first[ranks] << 8 | second[ranks]] = ranks
    return table


@kernel
def merge_pair(left: int, right: int) -> np.uint64:
    """Return a merge of two symbols without its rank."""
    return np.uint64(left) << _LEFT | np.uint64(right) << _RIGHT


@kernel
def bucket_of(pair: np.uint64, table: np.ndarray) -> np.uint64:
    """Return the index in a table of merges where the search for a pair begins."""
    # The highest 21 bits of the product depend on all bits of both symbols.
    return (((pair >> _RIGHT) * _GOLDEN) >> _HASHED & np.uint64((table.shape[0] >> 3) - 1)) << _BUCKET_BITS


@kernel
def rank_of(pair: np.uint64, table: np.ndarray) -> np.int64:
    """Return the rank of the merge of a pair, or `NO_RANK`.

    No branch depends on whether there is one, because that is hard to predict.
    """
    bucket = bucket_of(pair, table)
    found = equal_words(table, bucket, pair, _RANK)
    while found | np.uint64(table[bucket + _SEVEN] == _FREE) == _NONE:  # a full bucket, which is rare
        bucket = (bucket + _EIGHT) & np.uint64(table.shape[0] - 1)
        found = equal_words(table, bucket, pair, _RANK)
    rank = table[bucket + (np.uint64(trailing_zeros(found)) & _SEVEN)] & _RANK
    without = np.uint64(found == _NONE) * np.uint64(NO_RANK)
    return np.int64(rank | without)


@kernel
def merge_short(
    data: np.ndarray,
    start: int,
    length: int,
    byte_symbols: np.ndarray,
    byte_ranks: np.ndarray,
    ranks: np.ndarray,
    merged: np.ndarray,
    symbols: np.ndarray,
    found: np.ndarray,
) -> int:
    """Merge at most `SHORT` bytes of `data` and return the number of symbols, which are the first of `symbols`.

    `found` is a buffer of `SHORT` for the rank of each symbol with the next one.
    """
    for offset in range(length):
        symbols[offset] = byte_symbols[data[np.uint64(start + offset)]]
    for offset in range(length - 1):
        index = np.uint64(start + offset)
        found[offset] = byte_ranks[np.uint64(data[index]) << _EIGHT | np.uint64(data[index + _ONE])]
    while length > 1:
        best = found[0] << _OFFSET_BITS
        for offset in range(1, length - 1):
            best = min(best, found[offset] << _OFFSET_BITS | offset)
        rank, at = best >> _OFFSET_BITS, best & _OFFSET
        if rank == NO_RANK:
            break
        symbols[at] = merged[rank]
        length -= 1
        for offset in range(at + 1, length):
            symbols[offset] = symbols[offset + 1]
            found[offset - 1] = found[offset]
        if at > 0:
            found[at - 1] = rank_of(merge_pair(symbols[at - 1], symbols[at]), ranks)
        if at < length - 1:
            found[at] = rank_of(merge_pair(symbols[at], symbols[at + 1]), ranks)
    return length


@kernel
def _push(heap: np.ndarray, size: int, item: int) -> None:
    """Insert `item` into a heap of `size` entries with the least on top."""
    index = size
    while index > 0 and heap[(index - 1) >> 1] > item:
        heap[index] = heap[(index - 1) >> 1]
        index = (index - 1) >> 1
    heap[index] = item


@kernel
def _drop_top(heap: np.ndarray, size: int) -> None:
    """Remove the top of a heap of `size` entries."""
    item = heap[size - 1]
    index = 0
    while 2 * index + 1 < size - 1:
        child = 2 * index + 1
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[index] = heap[child]
        index = child
    heap[index] = item


@kernel
def merge_long(symbols: np.ndarray, space: np.ndarray, length: int, ranks: np.ndarray, merged: np.ndarray) -> int:
    """Merge like `merge_short`, in time proportional to n log n, with a heap of ranks and linked symbols.

    `space` is a buffer of six times the length.
    """
    after, before, found = space[:length], space[length : 2 * length], space[2 * length : 3 * length]
    heap = space[3 * length :]  # rank and index: the lowest rank first and, among equals, the leftmost
    size = 0
    for index in range(length):
        after[index], before[index], found[index] = index + 1, index - 1, NO_RANK
    for index in range(length - 1):
        found[index] = rank_of(merge_pair(symbols[index], symbols[index + 1]), ranks)
        if found[index] != NO_RANK:
            _push(heap, size, found[index] << _INDEX_BITS | index)
            size += 1
    while size > 0:
        at, rank = heap[0] & _INDEX, heap[0] >> _INDEX_BITS
        _drop_top(heap, size)
        size -= 1
        if found[at] != rank:
            continue  # one of the two symbols has been merged with another since
        right = after[at]
        symbols[at] = merged[rank]
        symbols[right] = _DEAD
        found[at] = found[right] = NO_RANK
        following = after[right]
        after[at] = following
        if following < length:
            before[following] = at
            found[at] = rank_of(merge_pair(symbols[at], symbols[following]), ranks)
            if found[at] != NO_RANK:
                _push(heap, size, found[at] << _INDEX_BITS | at)
                size += 1
        previous = before[at]
        if previous >= 0:
            found[previous] = rank_of(merge_pair(symbols[previous], symbols[at]), ranks)
            if found[previous] != NO_RANK:
                _push(heap, size, found[previous] << _INDEX_BITS | previous)
                size += 1
    left = 0
    for index in range(length):
        if symbols[index] != _DEAD:
            symbols[left] = symbols[index]
            left += 1
    return left
