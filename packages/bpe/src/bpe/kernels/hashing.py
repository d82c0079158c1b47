"""Keys and hashes of pieces and pairs.

uint64 and int64 mixed become float64 in Numba, hence the casts.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.compiling import kernel

PACKED = 8
"""Pieces of up to so many bytes are their own key; the key of a longer one is a hash, and its bytes are compared."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x100000001B3)
_FOLD = np.uint64(32)


@kernel
def piece_key(data: np.ndarray, start: int, length: int) -> np.uint64:
    """Return the key of a piece as uint64: its bytes, little-endian, or a hash of them when there are over eight."""
    key = np.uint64(0)
    if length <= PACKED:
        for offset in range(length):
            key |= np.uint64(data[np.uint64(start + offset)]) << np.uint64(8 * offset)
        return key
    for offset in range(length):
        key = (key ^ np.uint64(data[np.uint64(start + offset)])) * _PRIME
    return key


@kernel
def first_slot(key: np.uint64, salt: int, capacity: int) -> np.uint64:
    """Return the slot (uint64) at which the search for `key` begins in a table of `capacity` (a power of two) slots."""
    mixed = (key ^ np.uint64(salt) * _PRIME) * _GOLDEN
    mixed = (mixed ^ (mixed >> _FOLD)) * _GOLDEN
    return (mixed ^ (mixed >> _FOLD)) & np.uint64(capacity - 1)


@kernel
def same_bytes(first: np.ndarray, first_start: int, second: np.ndarray, second_start: int, length: int) -> bool:
    """Say whether two stretches of `length` bytes are equal."""
    for offset in range(length):
        if first[np.uint64(first_start + offset)] != second[np.uint64(second_start + offset)]:
            return False
    return True
