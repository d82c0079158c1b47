"""Search for special tokens, 64 bytes at a time, and for cuts between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers, Spans
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import BLOCK, equal_mask, trailing_zeros
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.scanning.utf8 import last_cut

_NONE, _ONE = np.uint64(0), np.uint64(1)


class TokenArrays(NamedTuple):
    """Special tokens, in lexicographic order."""

    tokens: Bytes
    """Their concatenation, uint8."""
    offsets: Numbers
    """Their bounds in `tokens`, int64, tokens + 1."""
    parents: Numbers
    """For each token, the position of the longest other token that it begins with, or -1; int64."""
    firsts: Bytes
    """Their distinct first bytes, uint8."""
    longest: int
    """Bytes of the longest token."""


@kernel
def _shared_size(data: np.ndarray, position: int, special: TokenArrays, token: int, known: int) -> int:
    """Return how many bytes from `position` on equal those of a token; the first `known` bytes do."""
    begin = special.offsets[token]
    size = min(special.offsets[token + 1] - begin, data.shape[0] - position)
    for offset in range(known, size):
        if data[np.uint64(position + offset)] != special.tokens[np.uint64(begin + offset)]:
            return offset
    return size


@kernel
def _token_size(special: TokenArrays, token: int) -> int:
    """Return the number of bytes of a token."""
    return special.offsets[token + 1] - special.offsets[token]


@kernel
def _can_begin(byte: int, special: TokenArrays) -> bool:
    """Return whether a token begins with `byte`."""
    for first in special.firsts:  # noqa: SIM110 (Numba has no `any`)
        if first == byte:
            return True
    return False


@kernel
def _longest_at(data: np.ndarray, position: int, special: TokenArrays) -> int:
    """Return the index of the longest token that begins at `position`, or -1."""
    low, high = 0, special.offsets.shape[0] - 1
    # Bytes that the text shares with the tokens `low - 1` and `high`, and so with all between them.
    low_shared = high_shared = 0
    while low < high:  # tokens before `low` do not come after the text, tokens from `high` on do
        middle = (low + high) >> 1
        shared = _shared_size(data, position, special, middle, min(low_shared, high_shared))
        if shared < _token_size(special, middle) and (
            position + shared == data.shape[0]
            or data[position + shared] < special.tokens[special.offsets[middle] + shared]
        ):
            high, high_shared = middle, shared
        else:
            low, low_shared = middle + 1, shared
    token = low - 1
    while token >= 0 and _token_size(special, token) > low_shared:
        token = special.parents[token]
    return token


@entry_point
def find_special_tokens(data: Bytes, spans: Spans, special: TokenArrays) -> int:
    """Write the spans of special tokens to `spans`, leftmost first and the longest at each start; return their number.

    `spans` is int64 of shape (capacity, 3): first byte, byte after the last, index of the token. Spans beyond the
    capacity are only counted.
    """
    found = 0
    free = 0  # first byte after the token found last
    for block in range(0, data.shape[0], BLOCK):
        size = min(data.shape[0] - block, BLOCK)
        candidates = _NONE
        if size == BLOCK:
            for index in range(special.firsts.shape[0]):
                candidates |= equal_mask(data, block, special.firsts[index])
        else:
            for offset in range(size):
                if _can_begin(data[block + offset], special):
                    candidates |= _ONE << np.uint64(offset)
        while candidates != _NONE:
            position = block + trailing_zeros(candidates)
            candidates &= candidates - _ONE
            if position < free:
                continue
            token = _longest_at(data, position, special)
            if token < 0:
                continue
            free = position + _token_size(special, token)
            if found < spans.shape[0]:
                spans[found, 0], spans[found, 1], spans[found, 2] = position, free, token
            found += 1
    return found


@entry_point
def last_cut_between_tokens(
    data: Bytes, floor: int, end: int, scanner: Scanner, classes: Bytes, special: TokenArrays
) -> int:
    """Return the last cut of `last_cut` that no special token straddles, or -1."""
    while True:
        cut = last_cut(data, floor, end, scanner, classes)
        straddling = -1
        for start in range(max(0, cut - special.longest + 1), cut):
            if _can_begin(data[start], special):
                token = _longest_at(data, start, special)
                if token >= 0 and start + _token_size(special, token) > cut:
                    straddling = start
                    break
        if straddling < 0:
            return cut
        end = straddling  # no cut within that token is possible either
