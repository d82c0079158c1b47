"""Arrays in the one form that the kernels are compiled for, with their dtypes as annotations."""

from __future__ import annotations

import mmap
from typing import Annotated

import numpy as np

# All arrays are contiguous. A number after the dtype is the number of dimensions, 1 by default.
Bytes = Annotated[np.ndarray, "uint8"]
Numbers = Annotated[np.ndarray, "int64"]
SmallNumbers = Annotated[np.ndarray, "int32"]
Ids = Annotated[np.ndarray, "uint32"]
Words = Annotated[np.ndarray, "uint64"]
Spans = Annotated[np.ndarray, "int64", 2]
SmallPairs = Annotated[np.ndarray, "int32", 2]


def read_only(data: bytes | memoryview | np.ndarray) -> np.ndarray:
    """View bytes as a read-only uint8 array without copying; the flags of an array passed in do not change."""
    array = np.frombuffer(data, dtype=np.uint8)
    array.flags.writeable = False
    return array


def zeros(count: int, dtype: str, *, at_once: bool = False) -> np.ndarray:
    """Return an array of zeros that begins at the start of a page, so that no entry of a table lies across cache lines.

    `at_once` gets its memory from the system immediately where that is possible, which is faster for a table that will
    be used everywhere. NumPy would ask for huge pages, whose first use takes very long in some virtual machines.
    """
    flags = {}
    if hasattr(mmap, "MAP_PRIVATE"):
        flags["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (getattr(mmap, "MAP_POPULATE", 0) if at_once else 0)
    return np.frombuffer(mmap.mmap(-1, np.dtype(dtype).itemsize * count, **flags), dtype=dtype)
