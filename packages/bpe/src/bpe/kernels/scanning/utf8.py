"""Finding malformed UTF-8, 64 bytes at a time where they are ASCII."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.vectors import BLOCK, high_mask, trailing_zeros

_NONE = np.uint64(0)


@kernel
def _continues(data: np.ndarray, position: int, number: int) -> bool:
    """Say whether the `number` bytes from `position` on are there and continue a character."""
    if position + number > data.shape[0]:
        return False
    for offset in range(number):  # noqa: SIM110 (Numba has no `all`)
        if data[np.uint64(position + offset)] & 0xC0 != 0x80:
            return False
    return True


@kernel
def well_formed_size(data: np.ndarray, position: int) -> int:
    """Return the size of the well-formed character at `position`, 0 if it is none (Unicode standard, table 3-7)."""
    lead = data[np.uint64(position)]
    if lead < 0x80:
        return 1
    if lead < 0xC2 or lead > 0xF4:
        return 0
    if lead < 0xE0:
        return 2 if _continues(data, position + 1, 1) else 0
    number = 2 if lead < 0xF0 else 3
    if not _continues(data, position + 1, number):
        return 0
    second = data[np.uint64(position + 1)]
    too_long = (lead == 0xE0 and second < 0xA0) or (lead == 0xF0 and second < 0x90)
    surrogate_or_too_high = (lead == 0xED and second > 0x9F) or (lead == 0xF4 and second > 0x8F)
    return 0 if too_long or surrogate_or_too_high else number + 1


@kernel
def is_well_formed(data: np.ndarray) -> bool:
    """Say whether `data` (uint8) is well-formed UTF-8 from its first to its last byte."""
    position = 0
    while position < data.shape[0]:
        if position + BLOCK <= data.shape[0]:
            high = high_mask(data, position)
            if high == _NONE:
                position += BLOCK
                continue
            position += trailing_zeros(high)
        # One run of other than ASCII characters, and the ASCII character after it.
        size = 0
        while position < data.shape[0]:
            size = well_formed_size(data, position)
            if size == 0:
                return False
            position += size
            if size == 1:
                break
    return True
