"""What `bpe.kernels.machine.atomics` does, in plain Python: for runs with NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

from threading import Lock

import numpy as np

_LOCK = Lock()


def load_acquire(array: np.ndarray, index: int) -> np.uint64:
    """Return an element."""
    return np.uint64(array[int(index)])


def store_release(array: np.ndarray, index: int, value: int) -> None:
    """Write an element."""
    array[int(index)] = value


def swap_if_equal(array: np.ndarray, index: int, expected: int, value: int) -> bool:
    """Write `value` if the element is `expected`, and say whether it was."""
    with _LOCK:
        equal = bool(array[int(index)] == expected)
        if equal:
            array[int(index)] = value
        return equal


def add_and_fetch_old(array: np.ndarray, index: int, amount: int) -> int:
    """Add to an element and return what it was."""
    with _LOCK:
        old = int(array[int(index)])
        array[int(index)] = old + int(amount)
        return old
