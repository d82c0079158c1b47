"""Plain-Python forms of the vector and atomic operations, for NUMBA_DISABLE_JIT=1 and as an oracle in tests."""

from __future__ import annotations

from threading import Lock

import numpy as np

BLOCK = 64
_LOCK = Lock()


def _mask(chosen: np.ndarray) -> np.uint64:
    """Return 64 booleans as one integer, the first boolean in the lowest bit."""
    return np.uint64(int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little"))


def _block(data: np.ndarray, position: int) -> np.ndarray:
    """Return the 64 bytes from `position`."""
    block = data[int(position) : int(position) + BLOCK]
    if len(block) < BLOCK:
        raise IndexError(f"a block of {BLOCK} bytes at {position} ends after the {len(data)} bytes of the text")
    return block


def byte_masks(data: np.ndarray, position: int) -> tuple[np.uint64, ...]:
    """Return the masks of letters, digits, white space, 0x20, apostrophes, and bytes of 0x80 and above."""
    block = _block(data, position)
    lower = block | 0x20
    kinds = (
        (lower >= ord("a")) & (lower <= ord("z")),
        (block >= ord("0")) & (block <= ord("9")),
        (block == 0x20) | ((block >= 9) & (block <= 13)),
        block == 0x20,
        block == ord("'"),
        block >= 0x80,
    )
    return tuple(map(_mask, kinds))


def equal_mask(data: np.ndarray, position: int, byte: int) -> np.uint64:
    """Return the mask of the bytes equal to `byte`."""
    return _mask(_block(data, position) == byte)


def range_mask(data: np.ndarray, position: int, first: int, number: int) -> np.uint64:
    """Return the mask of the bytes with one of `number` values from `first` on."""
    block = _block(data, position)
    return _mask((block >= first) & (block < int(first) + int(number)))


def high_mask(data: np.ndarray, position: int) -> np.uint64:
    """Return the mask of the bytes of 0x80 and above."""
    return _mask(_block(data, position) >= 0x80)


def load_word(data: np.ndarray, position: int) -> np.uint64:
    """Return the eight bytes from element `position` as one integer, the first byte lowest."""
    elements = 8 // data.itemsize
    word = data[int(position) : int(position) + elements]
    if len(word) < elements:
        raise IndexError(f"a word at {position} ends after the {len(data)} elements of the array")
    return np.uint64(int.from_bytes(word.tobytes(), "little"))


def copy_ids(out: np.ndarray, index: int, array: np.ndarray, first: int) -> None:
    """Copy four ids to `out` from an array, of any dtype, from its element `first`."""
    elements = 16 // array.itemsize
    ids = array[int(first) : int(first) + elements].view(np.uint32)
    out[int(index) : int(index) + 4] = ids.copy()


def store_ids(out: np.ndarray, index: int, low: int, high: int) -> None:
    """Write four ids: two from each word, the lower half first."""
    first = int(index)
    out[first : first + 4] = [int(low) & 0xFFFFFFFF, int(low) >> 32, int(high) & 0xFFFFFFFF, int(high) >> 32]


def equal_words(table: np.ndarray, index: int, value: int, ignored: int) -> np.uint64:
    """Return a mask of eight elements from `index`: ones where they equal `value`, apart from the bits in `ignored`."""
    words = table[int(index) : int(index) + 8]
    if len(words) < 8:
        raise IndexError(f"eight elements at {index} end after the {len(table)} elements of the table")
    return _mask((words & ~np.uint64(ignored)) == np.uint64(value))


def lowest_of_32(numbers: np.ndarray, index: int) -> np.uint32:
    """Return the lowest of 32 elements from `index`."""
    group = numbers[int(index) : int(index) + 32]
    if len(group) < 32:
        raise IndexError(f"32 elements at {index} end after the {len(numbers)} elements of the array")
    return np.uint32(group.min())


def count_ones(mask: int) -> int:
    """Return the number of ones in `mask`."""
    return int(mask).bit_count()


def leading_zeros(mask: int) -> int:
    """Return the number of zeros above the highest one bit of `mask`, or 64 if `mask` is zero."""
    return 64 - int(mask).bit_length()


def trailing_zeros(mask: int) -> int:
    """Return the number of zeros below the lowest one bit of `mask`, or 64 if `mask` is zero."""
    return (int(mask) & -int(mask)).bit_length() - 1 if mask else 64


def prefetch(array: np.ndarray, index: int) -> None:
    """Check that element `index` of an array exists."""
    array[int(index)]


def load_acquire(array: np.ndarray, index: int) -> np.uint64:
    """Return an element."""
    return np.uint64(array[int(index)])


def store_release(array: np.ndarray, index: int, value: int) -> None:
    """Write an element."""
    array[int(index)] = value


def swap_if_equal(array: np.ndarray, index: int, expected: int, value: int) -> bool:
    """Write `value` if the element equals `expected`; return True if it was written."""
    with _LOCK:
        equal = bool(array[int(index)] == expected)
        if equal:
            array[int(index)] = value
        return equal


def add_and_fetch_old(array: np.ndarray, index: int, amount: int) -> int:
    """Add to an element and return its old value."""
    with _LOCK:
        old = int(array[int(index)])
        array[int(index)] = old + int(amount)
        return old
