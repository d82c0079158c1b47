"""Heap of pairs with the next merge on top: the highest count, then the greater pair of byte strings.

`heap` (int32) holds indices of pairs, `bounds` (int64) the count under which each was inserted. `tokens` holds the
bytes of all symbols: their text (uint8), the start of each in it, and the size of each (both int64).
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

Tokens = tuple[np.ndarray, np.ndarray, np.ndarray]


@kernel
def _compare_tokens(first: int, second: int, tokens: Tokens) -> int:
    """Compare the bytes of two symbols as Python compares `bytes`: negative, zero or positive."""
    text, starts, sizes = tokens
    start, other = starts[first], starts[second]
    for offset in range(min(sizes[first], sizes[second])):
        if text[start + offset] != text[other + offset]:
            return 1 if text[start + offset] > text[other + offset] else -1
    return sizes[first] - sizes[second]


@kernel
def _before(key: np.uint64, count: int, other_key: np.uint64, other_count: int, tokens: Tokens) -> bool:
    """Return whether a pair is merged before another."""
    if count != other_count:
        return count > other_count
    left, other_left = np.int64(key >> _HALF), np.int64(other_key >> _HALF)
    order = 0
    if left != other_left:
        order = _compare_tokens(left, other_left, tokens)
    if order == 0:
        right, other_right = np.int64(key & _LOW), np.int64(other_key & _LOW)
        order = _compare_tokens(right, other_right, tokens)
    return order > 0


@kernel
def sift_up(heap: np.ndarray, bounds: np.ndarray, pair_keys: np.ndarray, tokens: Tokens, index: int) -> None:
    """Move the entry at `index` up until its parent comes before it."""
    pair, bound = heap[index], bounds[index]
    while index > 0:
        parent = (index - 1) >> 1
        if not _before(pair_keys[pair], bound, pair_keys[heap[parent]], bounds[parent], tokens):
            break
        heap[index], bounds[index] = heap[parent], bounds[parent]
        index = parent
    heap[index], bounds[index] = pair, bound


@kernel
def sift_down(heap: np.ndarray, bounds: np.ndarray, pair_keys: np.ndarray, tokens: Tokens, heap_size: int) -> None:
    """Move the top entry down until it comes before its children."""
    if heap_size == 0:
        return
    pair, bound = heap[0], bounds[0]
    index = 0
    while 2 * index + 1 < heap_size:
        child = 2 * index + 1
        if child + 1 < heap_size and _before(
            pair_keys[heap[child + 1]],
            bounds[child + 1],
            pair_keys[heap[child]],
            bounds[child],
            tokens,
        ):
            child += 1
        if not _before(pair_keys[heap[child]], bounds[child], pair_keys[pair], bound, tokens):
            break
        heap[index], bounds[index] = heap[child], bounds[child]
        index = child
    heap[index], bounds[index] = pair, bound
