"""Search for special tokens, 64 bytes at a time."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.vectors import BLOCK, equal_mask, trailing_zeros

_NONE, _ONE = np.uint64(0), np.uint64(1)


@kernel
def _token_at(data: np.ndarray, position: int, tokens: np.ndarray, offsets: np.ndarray) -> int:
    """Return the index of the first of the tokens that is found at `position`, or -1."""
    for token in range(offsets.shape[0] - 1):
        length = offsets[token + 1] - offsets[token]
        if position + length > data.shape[0]:
            continue
        same = True
        for offset in range(length):
            if data[np.uint64(position + offset)] != tokens[np.uint64(offsets[token] + offset)]:
                same = False
                break
        if same:
            return token
    return -1


@kernel
def find_special_tokens(
    data: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, firsts: np.ndarray, spans: np.ndarray
) -> int:
    """Write the spans of special tokens to `spans`, leftmost first and the longest at each start; return their number.

    `tokens` (uint8) is their concatenation, the longest first, `offsets` (int64, tokens + 1) their bounds, `firsts`
    (uint8) their distinct first bytes. `spans` is int64 of shape (capacity, 3): first byte, byte after the last, index
    in `tokens`. Spans beyond the capacity are only counted.
    """
    found = 0
    free = 0  # first byte after the token found last
    for block in range(0, data.shape[0], BLOCK):
        size = min(data.shape[0] - block, BLOCK)
        candidates = _NONE
        if size == BLOCK:
            for index in range(firsts.shape[0]):
                candidates |= equal_mask(data, block, firsts[index])
        else:
            for offset in range(size):
                for index in range(firsts.shape[0]):
                    if data[block + offset] == firsts[index]:
                        candidates |= _ONE << np.uint64(offset)
        while candidates != _NONE:
            position = block + trailing_zeros(candidates)
            candidates &= candidates - _ONE
            if position < free:
                continue
            token = _token_at(data, position, tokens, offsets)
            if token < 0:
                continue
            free = position + offsets[token + 1] - offsets[token]
            if found < spans.shape[0]:
                spans[found, 0], spans[found, 1], spans[found, 2] = position, free, token
            found += 1
    return found
