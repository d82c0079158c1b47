"""Arrays in the one form that the kernels are compiled for."""

from __future__ import annotations

import numpy as np


def read_only(data: bytes | memoryview | np.ndarray) -> np.ndarray:
    """View bytes as a read-only uint8 array without copying; the flags of an array passed in do not change."""
    array = np.frombuffer(data, dtype=np.uint8)
    array.flags.writeable = False
    return array
