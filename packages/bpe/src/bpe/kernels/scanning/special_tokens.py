"""Search for special tokens, 64 bytes at a time, and for cuts between them.

The tokens are those of `bpe.text.special_tokens.TokenArrays`, in lexicographic order.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers, Spans
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import BLOCK, equal_mask, trailing_zeros
from bpe.kernels.scanning.utf8 import last_cut

_NONE, _ONE = np.uint64(0), np.uint64(1)


@kernel
def _shared_size(data: np.ndarray, position: int, tokens: np.ndarray, begin: int, end: int) -> int:
    """Return how many bytes from `position` on equal those of the token tokens[begin:end]."""
    size = min(end - begin, data.shape[0] - position)
    for offset in range(size):
        if data[np.uint64(position + offset)] != tokens[np.uint64(begin + offset)]:
            return offset
    return size


@kernel
def _longest_at(data: np.ndarray, position: int, tokens: np.ndarray, offsets: np.ndarray, parents: np.ndarray) -> int:
    """Return the index of the longest token that begins at `position`, or -1."""
    low, high = 0, offsets.shape[0] - 1
    while low < high:  # tokens before `low` do not come after the text, tokens from `high` on do
        middle = (low + high) >> 1
        begin, end = offsets[middle], offsets[middle + 1]
        shared = _shared_size(data, position, tokens, begin, end)
        if begin + shared == end:
            low = middle + 1
        elif position + shared == data.shape[0] or data[position + shared] < tokens[begin + shared]:
            high = middle
        else:
            low = middle + 1
    token = low - 1
    while token >= 0:
        begin, end = offsets[token], offsets[token + 1]
        if _shared_size(data, position, tokens, begin, end) == end - begin:
            return token
        token = parents[token]
    return -1


@entry_point
def find_special_tokens(
    data: Bytes,
    spans: Spans,
    tokens: Bytes,
    offsets: Numbers,
    parents: Numbers,
    firsts: Bytes,
    longest: int,
) -> int:
    """Write the spans of special tokens to `spans`, leftmost first and the longest at each start; return their number.

    `spans` is int64 of shape (capacity, 3): first byte, byte after the last, index of the token. Spans beyond the
    capacity are only counted. `longest` is not used.
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
            token = _longest_at(data, position, tokens, offsets, parents)
            if token < 0:
                continue
            free = position + offsets[token + 1] - offsets[token]
            if found < spans.shape[0]:
                spans[found, 0], spans[found, 1], spans[found, 2] = position, free, token
            found += 1
    return found


@kernel
def _can_begin(byte: int, firsts: np.ndarray) -> bool:
    """Return whether a token begins with this byte."""
    for first in firsts:  # noqa: SIM110 (Numba has no `any`)
        if byte == first:
            return True
    return False


@entry_point
def last_cut_between_tokens(
    data: Bytes,
    floor: int,
    end: int,
    most_digits: int,
    classes: Bytes,
    tokens: Bytes,
    offsets: Numbers,
    parents: Numbers,
    firsts: Bytes,
    longest: int,
) -> int:
    """Return the last cut of `last_cut` that no special token straddles, or -1."""
    while True:
        cut = last_cut(data, floor, end, most_digits, classes)
        straddling = -1
        for start in range(max(0, cut - longest + 1), cut):
            if _can_begin(data[start], firsts):
                token = _longest_at(data, start, tokens, offsets, parents)
                if token >= 0 and start + offsets[token + 1] - offsets[token] > cut:
                    straddling = start
                    break
        if straddling < 0:
            return cut
        end = straddling  # no cut within that token is possible either
