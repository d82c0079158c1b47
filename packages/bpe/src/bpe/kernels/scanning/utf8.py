"""Validation of UTF-8, 64 bytes at a time where they are ASCII, and a place to cut it between two pre-tokens."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Bytes
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import BLOCK, high_mask, trailing_zeros
from bpe.kernels.scanning.gpt2_by_character import character_class
from bpe.kernels.scanning.unicode_classes import LETTER, NUMBER, OTHER, SPACE

_NONE = np.uint64(0)
_APOSTROPHE = 0x27


@kernel
def _continues(data: np.ndarray, position: int, number: int) -> bool:
    """Return whether there are `number` bytes from `position` and all continue a character."""
    if position + number > data.shape[0]:
        return False
    for offset in range(number):  # noqa: SIM110 (Numba has no `all`)
        if data[np.uint64(position + offset)] & 0xC0 != 0x80:
            return False
    return True


@kernel
def well_formed_size(data: np.ndarray, position: int) -> int:
    """Return the size of the character at `position`, 0 if it is malformed (Unicode standard, table 3-7)."""
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


@entry_point
def is_well_formed(data: Bytes) -> bool:
    """Return whether `data` (uint8) is well-formed UTF-8 from its first to its last byte."""
    position = 0
    while position < data.shape[0]:
        if position + BLOCK <= data.shape[0]:
            high = high_mask(data, position)
            if high == _NONE:
                position += BLOCK
                continue
            position += trailing_zeros(high)
        # A run of characters outside ASCII, and the ASCII character after it.
        size = 0
        while position < data.shape[0]:
            size = well_formed_size(data, position)
            if size == 0:
                return False
            position += size
            if size == 1:
                break
    return True


@kernel
def last_cut(data: np.ndarray, floor: int, end: int, most_digits: int, classes: np.ndarray) -> int:
    """Return the last cut in data[floor + 1 : end + 1] between two pre-tokens, whatever the text around it; or -1.

    At a cut the two characters differ in class and the first is a letter or a digit. With GPT-2's pattern, for which
    `most_digits` is 0, the first may be anything except white space, and except an apostrophe before a letter. Both
    characters must be well-formed; `data` as a whole need not be.
    """
    for cut in range(min(end, data.shape[0] - 1), floor, -1):
        if data[cut] & 0xC0 == 0x80 or well_formed_size(data, cut) == 0:
            continue
        before = cut - 1
        while before > floor and cut - before < 4 and data[before] & 0xC0 == 0x80:
            before -= 1
        if well_formed_size(data, before) != cut - before:
            continue
        kind, following = character_class(data, before, classes), character_class(data, cut, classes)
        if kind in (LETTER, NUMBER) and following != kind:
            return cut
        apart = following in (SPACE, NUMBER) or (following == LETTER and data[before] != _APOSTROPHE)
        if most_digits == 0 and kind == OTHER and apart:
            return cut
    return -1
