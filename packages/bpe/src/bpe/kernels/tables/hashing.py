"""Keys and hashes of pre-tokens and of pairs.

The key of a pre-token is two uint64. With at most 15 bytes it is these bytes and, in the highest byte, their number;
otherwise it is two hashes and 255, after which the bytes are compared. No key has a zero in its highest byte.

Numba converts mixed uint64 and int64 to float64, hence the casts.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel, rare_kernel
from bpe.kernels.machine.operations import load_word

PACKED = 15
"""Pre-tokens of at most this many bytes are their own key."""

KEY_BYTES = 16
"""The bytes that are read for the key of a shorter pre-token."""

_WORD = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0xD6E8FEB86659FD93)
_ZERO, _FOLD = np.uint64(0), np.uint64(32)
_LENGTH, _IS_LONG = np.uint64(56), np.uint64(255 << 56)
# For each length up to 15: which of the first and of the second eight bytes belong to a pre-token.
_FIRST_BYTES = np.array([(1 << 8 * min(length, 8)) - 1 for length in range(PACKED + 1)], dtype=np.uint64)
_NEXT_BYTES = np.array([(1 << 8 * max(length - 8, 0)) - 1 for length in range(PACKED + 1)], dtype=np.uint64)


@rare_kernel
def _near_end_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return the bytes of a pre-token of at most 15 bytes and their number, without reading beyond it."""
    low, high = _ZERO, np.uint64(length) << _LENGTH
    for offset in range(length):
        byte = np.uint64(data[np.uint64(start + offset)])
        if offset < _WORD:
            low |= byte << np.uint64(8 * offset)
        else:
            high |= byte << np.uint64(8 * (offset - _WORD))
    return low, high


@kernel
def _long_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return two hashes of a pre-token of more than 15 bytes, with 255 in the highest byte."""
    last = start + length - _WORD
    low, high = np.uint64(length) * _GOLDEN, np.uint64(length)
    while start < last:
        low = (low ^ load_word(data, start)) * _PRIME
        low ^= low >> _FOLD
        high = (high + low) * _GOLDEN
        start += _WORD
    low = (low ^ load_word(data, last)) * _PRIME  # overlaps the eight bytes before, and ends with the pre-token
    return low ^ (low >> _FOLD), (high + low) * _GOLDEN | _IS_LONG


@kernel
def pretoken_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return the key of a pre-token: two uint64."""
    if length <= PACKED and start + KEY_BYTES > data.shape[0]:
        return _near_end_key(data, start, length)
    return inner_key(data, start, length)


@kernel
def inner_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return the key of a pre-token where `data` has at least `KEY_BYTES` bytes from `start` on."""
    if length > PACKED:
        return _long_key(data, start, length)
    # Branch-free: a branch on the length would be mispredicted for about 10 % of pre-tokens.
    return (
        load_word(data, start) & _FIRST_BYTES[np.uint64(length)],
        load_word(data, start + _WORD) & _NEXT_BYTES[np.uint64(length)] | np.uint64(length) << _LENGTH,
    )


@kernel
def slot_shift(capacity: int) -> np.uint64:
    """Return the shift of `pretoken_slot` for a table of `capacity` slots (a power of two, at least two)."""
    shift = 64
    while capacity > 1:
        capacity >>= 1
        shift -= 1
    return np.uint64(shift)


@kernel
def pretoken_slot(low: np.uint64, high: np.uint64, shift: np.uint64) -> np.uint64:
    """Return the slot (uint64) where the search for a key begins: the upper bits, which depend on all others."""
    return ((low ^ (high * _PRIME)) * _GOLDEN) >> shift


@kernel
def pair_slot(pair: np.uint64, capacity: int) -> np.uint64:
    """Return the slot (uint64) where the search for a pair begins; `capacity`, in slots, is a power of two."""
    mixed = (pair ^ (pair >> _FOLD)) * _GOLDEN
    return (mixed ^ (mixed >> _FOLD)) & np.uint64(capacity - 1)


@kernel
def same_bytes(first: np.ndarray, first_start: int, second: np.ndarray, second_start: int, length: int) -> bool:
    """Return whether two ranges of `length` bytes, at least eight, are equal."""
    for offset in range(0, length - _WORD, _WORD):
        if load_word(first, first_start + offset) != load_word(second, second_start + offset):
            return False
    return load_word(first, first_start + length - _WORD) == load_word(second, second_start + length - _WORD)
