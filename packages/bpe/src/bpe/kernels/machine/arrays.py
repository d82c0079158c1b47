"""Arrays in the one form that the kernels are compiled for, with their dtypes as annotations."""

from __future__ import annotations

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


def aligned(count: int, dtype: str, *, zeros: bool = False) -> np.ndarray:
    """Return an array that begins at the start of a cache line of 64 bytes, so that no entry lies across two."""
    size = np.dtype(dtype).itemsize * count
    memory = (np.zeros if zeros else np.empty)(size + 64, dtype=np.uint8)
    begin = -memory.__array_interface__["data"][0] % 64
    return memory[begin : begin + size].view(dtype)
