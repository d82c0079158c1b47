"""Pre-token boundaries of GPT-2's pattern, character by character: the readable form of `gpt2.py`.

It also finds the end of a pre-token that is longer than a block. Indices are cast to unsigned, so that Numba omits the
test for negative ones; that test would make the code three times as slow.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.unicode_classes import SPACE

_APOSTROPHE, _BLANK = 0x27, 0x20
_D, _E, _L, _M, _R, _S, _T, _V = 0x64, 0x65, 0x6C, 0x6D, 0x72, 0x73, 0x74, 0x76
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
    """Return the class of the character that starts at `position` of valid UTF-8."""
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
def run_end(data: np.ndarray, position: int, end: int, kind: int, classes: np.ndarray) -> int:
    """Return the end of the run of characters of class `kind` that contains `position`."""
    while position < end and character_class(data, position, classes) == kind:
        position += character_size(data, position)
    return position


@kernel
def contraction_end(data: np.ndarray, position: int, end: int, lower: int) -> int:
    """Return the end of the contraction that starts with the apostrophe at `position`; `position` if there is none.

    `lower` is 0, or 0x20 to ignore case.
    """
    if position + 1 < end:
        first = data[np.uint64(position + 1)]
        if first | lower in (_S, _T, _D, _M):
            return position + 2
        if position + 2 < end:
            second = data[np.uint64(position + 2)]
            if lower and (first, second) == _LONG_S:
                return position + 3
            first |= lower
            second |= lower
            if (first == _L and second == _L) or (second == _E and first in (_V, _R)):
                return position + 3
    return position


@kernel
def pretoken_end(data: np.ndarray, position: int, end: int, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`.

    `data` is valid UTF-8 (uint8), `end` the end of the text between two special tokens, `classes` the table of
    `unicode_classes`; `position` is less than `end` and starts a pre-token.
    """
    first = data[np.uint64(position)]
    if first == _APOSTROPHE:
        stop = contraction_end(data, position, end, 0)
        if stop > position:
            return stop
    if first == _BLANK and position + 1 < end:
        kind = character_class(data, position + 1, classes)
        if kind != SPACE:
            return run_end(data, position + 1, end, kind, classes)
    kind = character_class(data, position, classes)
    if kind != SPACE:
        return run_end(data, position, end, kind, classes)
    last = position
    stop = position
    while stop < end and character_class(data, stop, classes) == SPACE:
        last = stop
        stop += character_size(data, stop)
    # \s+(?!\S)|\s+: the last white-space character before other text starts a pre-token of its own.
    return stop if stop == end or last == position else last
