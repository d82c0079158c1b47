"""Single characters of UTF-8, runs of them, white space and contractions: the parts that several patterns share.

Indices are cast to unsigned, so that Numba omits the test for negative ones; that test would make the code three times
as slow.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.unicode_classes import KIND, NUMBER, SPACE

APOSTROPHE, BLANK, LINE_FEED, RETURN, SLASH = 0x27, 0x20, 0x0A, 0x0D, 0x2F
_D, _E, _L, _M, _R, _S, _T, _V = 0x64, 0x65, 0x6C, 0x6D, 0x72, 0x73, 0x74, 0x76
_LOWER_CASE = 0x20  # the bit that makes an ASCII letter lowercase
_LONG_S = (0xC5, 0xBF)  # U+017F (long s), which equals s when case is ignored


@kernel
def character_size(data: np.ndarray, position: int) -> int:
    """Return the number of bytes of the character that starts at `position` of valid UTF-8."""
    lead = data[np.uint64(position)]
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@kernel
def character_class(data: np.ndarray, position: int, classes: np.ndarray) -> int:
    """Return the class of the character that starts at `position` of valid UTF-8, as in `unicode_classes`."""
    lead = np.int64(data[np.uint64(position)])
    if lead < 0x80:
        return classes[np.uint64(lead)]
    second = np.int64(data[np.uint64(position + 1)]) & 0x3F
    if lead < 0xE0:
        return classes[np.uint64((lead & 0x1F) << 6 | second)]
    third = np.int64(data[np.uint64(position + 2)]) & 0x3F
    if lead < 0xF0:
        return classes[np.uint64((lead & 0x0F) << 12 | second << 6 | third)]
    fourth = np.int64(data[np.uint64(position + 3)]) & 0x3F
    return classes[np.uint64((lead & 0x07) << 18 | second << 12 | third << 6 | fourth)]


@kernel
def character_kind(data: np.ndarray, position: int, classes: np.ndarray) -> int:
    """Return LETTER, NUMBER, SPACE or OTHER for the character that starts at `position`."""
    return character_class(data, position, classes) & KIND


@kernel
def run_end(data: np.ndarray, position: int, end: int, kind: int, classes: np.ndarray) -> int:
    """Return the end of the run of characters of one kind that starts at `position`."""
    while position < end and character_kind(data, position, classes) == kind:
        position += character_size(data, position)
    return position


@kernel
def is_line_break(data: np.ndarray, position: int) -> bool:
    """Return whether the byte at `position` is a line feed or a carriage return."""
    return data[np.uint64(position)] in (LINE_FEED, RETURN)


@kernel
def digits_end(data: np.ndarray, position: int, end: int, most_digits: int, classes: np.ndarray) -> int:
    """Return the end of the run of digits from `position`, or of its first `most_digits`."""
    digits = 0
    while digits < most_digits and position < end and character_kind(data, position, classes) == NUMBER:
        position += character_size(data, position)
        digits += 1
    return position


@kernel
def space_end(data: np.ndarray, position: int, end: int, end_is_special: int, classes: np.ndarray) -> int:
    """Return the end of the white-space pre-token that starts at `position`."""
    stop, last, line_end = position, position, position
    while stop < end and character_kind(data, stop, classes) == SPACE:
        last = stop
        stop += character_size(data, stop)
        if is_line_break(data, last):
            line_end = stop
    if stop == end and end_is_special:
        return stop
    if line_end > position:
        return line_end
    # \s+(?!\S)|\s+: the last white-space character before other text starts a pre-token of its own.
    return stop if stop == end or last == position else last


@kernel
def contraction_end(data: np.ndarray, position: int, end: int, ignore_case: bool) -> int:
    """Return the end of the contraction that starts with the apostrophe at `position`; `position` if there is none."""
    lower = _LOWER_CASE if ignore_case else 0
    if position + 1 < end:
        first = data[np.uint64(position + 1)]
        if first | lower in (_S, _T, _D, _M):
            return position + 2
        if position + 2 < end:
            second = data[np.uint64(position + 2)]
            if ignore_case and (first, second) == _LONG_S:
                return position + 3
            first |= lower
            second |= lower
            if (first == _L and second == _L) or (second == _E and first in (_V, _R)):
                return position + 3
    return position
