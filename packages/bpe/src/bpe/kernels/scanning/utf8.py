"""Validation of UTF-8, 64 bytes at a time, and a place to cut it between two pre-tokens."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Bytes
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import BLOCK, equal_mask, high_mask, range_mask, trailing_zeros
from bpe.kernels.scanning.characters import APOSTROPHE, character_class, character_kind, is_line_break
from bpe.kernels.scanning.scanner import GPT2, Scanner
from bpe.kernels.scanning.unicode_classes import KIND, LETTER, MARK, NUMBER, OTHER, SPACE

_NONE, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_LAST = np.uint64(1 << 63)


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
    while position + BLOCK <= data.shape[0]:
        high = high_mask(data, position)
        if high == _NONE:
            position += BLOCK
            continue
        three, four = range_mask(data, position, 0xE0, 16), range_mask(data, position, 0xF0, 5)
        leads = range_mask(data, position, 0xC2, 30) | three | four
        continuing = range_mask(data, position, 0x80, 64)
        expected = (leads << _ONE) | ((three | four) << _TWO) | (four << _THREE)
        wrong = (high ^ (leads | continuing)) | (continuing ^ expected)
        if three | four != _NONE:  # second bytes of characters that are too long, surrogates or too high
            wrong |= (equal_mask(data, position, 0xE0) << _ONE) & range_mask(data, position, 0x80, 32)
            wrong |= (equal_mask(data, position, 0xED) << _ONE) & range_mask(data, position, 0xA0, 32)
            wrong |= (equal_mask(data, position, 0xF0) << _ONE) & range_mask(data, position, 0x80, 16)
            wrong |= (equal_mask(data, position, 0xF4) << _ONE) & range_mask(data, position, 0x90, 48)
        if wrong != _NONE:
            return False
        # A character that continues after the block begins the next one.
        cut_off = (leads & _LAST) | ((three | four) & (_LAST >> _ONE)) | (four & (_LAST >> _TWO))
        position += trailing_zeros(cut_off)
    while position < data.shape[0]:
        size = well_formed_size(data, position)
        if size == 0:
            return False
        position += size
    return True


@kernel
def last_cut(data: np.ndarray, floor: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the last cut in data[floor + 1 : end + 1] between two pre-tokens, whatever the text around it; or -1.

    `bpe.text.blocks` explains where such cuts are. Both characters must be well-formed; `data` as a whole need not be.
    """
    for cut in range(min(end, data.shape[0] - 1), floor, -1):
        if data[cut] & 0xC0 == 0x80 or well_formed_size(data, cut) == 0:
            continue
        before = cut - 1
        while before > floor and cut - before < 4 and data[before] & 0xC0 == 0x80:
            before -= 1
        if well_formed_size(data, before) != cut - before:
            continue
        first, following = character_kind(data, before, classes), character_class(data, cut, classes)
        if first == SPACE or following & KIND == first:
            continue
        if following & KIND == SPACE and not is_line_break(data, cut):
            return cut
        if scanner.kind == GPT2:
            if first != OTHER or following & KIND != LETTER or data[before] != APOSTROPHE:
                return cut
        elif first == NUMBER or (first == LETTER and not following & MARK and data[cut] != APOSTROPHE):
            return cut
    return -1
