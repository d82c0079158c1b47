"""Arrays in the one form that the kernels are compiled for, with their dtypes as annotations."""

from __future__ import annotations

import mmap
from contextlib import suppress
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


_HUGE_PAGE = 1 << 21


def zeros(count: int, dtype: str, *, at_once: bool = False) -> np.ndarray:
    """Return an array of zeros that begins at the start of a page, so that no entry of a table lies across cache lines.

    `at_once` is for a table that will be used everywhere. Its memory comes immediately or, if there is enough, in huge
    pages, where the system can do that. NumPy asks for huge pages for every large array. That fills memory which may
    never be used, and in some virtual machines takes ten times as long as other pages.
    """
    size = np.dtype(dtype).itemsize * count
    huge = at_once and size >= 2 * _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE")
    flags = {}
    if hasattr(mmap, "MAP_PRIVATE"):
        at_once &= not huge
        flags["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (getattr(mmap, "MAP_POPULATE", 0) if at_once else 0)
    memory = mmap.mmap(-1, size + huge * _HUGE_PAGE, **flags)
    begin = 0
    if huge:
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        begin = -np.frombuffer(memory, dtype=np.uint8).__array_interface__["data"][0] % _HUGE_PAGE
    return np.frombuffer(memory, dtype=dtype, count=count, offset=begin)
