"""Keys and hashes of pieces and pairs.

A piece is known by two words: the bytes of one of up to 16 bytes, and two hashes of a longer one, whose bytes are then
compared. uint64 and int64 mixed become float64 in Numba, hence the casts.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.vectors import load_word

PACKED = 16
"""Pieces of up to so many bytes are their own key."""

_WORD = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0xD6E8FEB86659FD93)
_ZERO, _FOLD = np.uint64(0), np.uint64(32)
# For each length up to 16, what of the first and of the second eight bytes belongs to a piece.
_FIRST_BYTES = np.array([(1 << 8 * min(length, 8)) - 1 for length in range(PACKED + 1)], dtype=np.uint64)
_NEXT_BYTES = np.array([(1 << 8 * max(length - 8, 0)) - 1 for length in range(PACKED + 1)], dtype=np.uint64)


@kernel
def _near_end_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return the bytes of a piece of up to 16 bytes as two words, without reading beyond it."""
    low, high = _ZERO, _ZERO
    for offset in range(length):
        byte = np.uint64(data[np.uint64(start + offset)])
        if offset < _WORD:
            low |= byte << np.uint64(8 * offset)
        else:
            high |= byte << np.uint64(8 * (offset - _WORD))
    return low, high


@kernel
def _long_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return two hashes of a piece of more than 16 bytes."""
    last = start + length - _WORD
    low, high = np.uint64(length) * _GOLDEN, np.uint64(length)
    while start < last:
        low = (low ^ load_word(data, start)) * _PRIME
        low ^= low >> _FOLD
        high = (high + low) * _GOLDEN
        start += _WORD
    low = (low ^ load_word(data, last)) * _PRIME  # overlaps the word before it, and does not go beyond the piece
    return low ^ (low >> _FOLD), (high + low) * _GOLDEN


@kernel
def piece_key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Return the key of a piece: two uint64."""
    if length > PACKED:
        return _long_key(data, start, length)
    if start + PACKED > data.shape[0]:
        return _near_end_key(data, start, length)
    # Without a branch for the length, which would be guessed wrongly for every tenth piece.
    return (
        load_word(data, start) & _FIRST_BYTES[np.uint64(length)],
        load_word(data, start + _WORD) & _NEXT_BYTES[np.uint64(length)],
    )


@kernel
def slot_shift(capacity: int) -> np.uint64:
    """Return what `piece_slot` takes for a table of `capacity` (a power of two, at least two) slots."""
    shift = 64
    while capacity > 1:
        capacity >>= 1
        shift -= 1
    return np.uint64(shift)


@kernel
def piece_slot(low: np.uint64, high: np.uint64, shift: np.uint64) -> np.uint64:
    """Return the slot (uint64) at which the search for a piece begins: upper bits, in which all others have a part."""
    return ((low ^ (high * _PRIME)) * _GOLDEN) >> shift


@kernel
def pair_slot(pair: np.uint64, capacity: int) -> np.uint64:
    """Return the slot (uint64) at which the search for a pair begins; `capacity`, in slots, is a power of two."""
    mixed = (pair ^ (pair >> _FOLD)) * _GOLDEN
    return (mixed ^ (mixed >> _FOLD)) & np.uint64(capacity - 1)


@kernel
def same_bytes(first: np.ndarray, first_start: int, second: np.ndarray, second_start: int, length: int) -> bool:
    """Say whether two stretches of `length` bytes, at least eight, are equal."""
    for offset in range(0, length - _WORD, _WORD):
        if load_word(first, first_start + offset) != load_word(second, second_start + offset):
            return False
    return load_word(first, first_start + length - _WORD) == load_word(second, second_start + length - _WORD)
