"""A heap of pairs with the one to merge next on top: the highest count, then the greater pair of byte strings.

`heap` (int32) holds pairs, `bounds` (int64) the count under which each was entered.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@kernel
def _compare_tokens(first: int, second: int, words: np.ndarray, token_start: np.ndarray, token_size: np.ndarray) -> int:
    """Compare the bytes of two tokens like `bytes`: negative, zero or positive."""
    start, other = token_start[first], token_start[second]
    for offset in range(min(token_size[first], token_size[second])):
        if words[start + offset] != words[other + offset]:
            return 1 if words[start + offset] > words[other + offset] else -1
    return token_size[first] - token_size[second]


@kernel
def _before(
    key: np.uint64,
    count: int,
    other_key: np.uint64,
    other_count: int,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
) -> bool:
    """Say whether a pair is merged before another."""
    if count != other_count:
        return count > other_count
    left, other_left = np.int64(key >> _HALF), np.int64(other_key >> _HALF)
    order = 0
    if left != other_left:
        order = _compare_tokens(left, other_left, words, token_start, token_size)
    if order == 0:
        right, other_right = np.int64(key & _LOW), np.int64(other_key & _LOW)
        order = _compare_tokens(right, other_right, words, token_start, token_size)
    return order > 0


@kernel
def sift_up(
    heap: np.ndarray,
    bounds: np.ndarray,
    pair_keys: np.ndarray,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
    place: int,
) -> None:
    """Move the entry at `place` towards the top until its parent comes before it."""
    pair, bound = heap[place], bounds[place]
    while place > 0:
        parent = (place - 1) >> 1
        if not _before(pair_keys[pair], bound, pair_keys[heap[parent]], bounds[parent], words, token_start, token_size):
            break
        heap[place], bounds[place] = heap[parent], bounds[parent]
        place = parent
    heap[place], bounds[place] = pair, bound


@kernel
def sift_down(
    heap: np.ndarray,
    bounds: np.ndarray,
    pair_keys: np.ndarray,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
    heap_size: int,
) -> None:
    """Move the entry at the top down until it comes before its children."""
    if heap_size == 0:
        return
    pair, bound = heap[0], bounds[0]
    place = 0
    while 2 * place + 1 < heap_size:
        child = 2 * place + 1
        if child + 1 < heap_size and _before(
            pair_keys[heap[child + 1]],
            bounds[child + 1],
            pair_keys[heap[child]],
            bounds[child],
            words,
            token_start,
            token_size,
        ):
            child += 1
        if not _before(pair_keys[heap[child]], bounds[child], pair_keys[pair], bound, words, token_start, token_size):
            break
        heap[place], bounds[place] = heap[child], bounds[child]
        place = child
    heap[place], bounds[place] = pair, bound
