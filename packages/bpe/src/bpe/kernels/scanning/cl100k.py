"""Where the pre-tokens of cl100k's pattern, and of Llama 3's and Qwen's, end over UTF-8 bytes."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.gpt2_by_character import character_class, character_size
from bpe.text.unicode_classes import LETTER, NUMBER, OTHER, SPACE

_APOSTROPHE, _BLANK, _LINE_FEED, _RETURN = 0x27, 0x20, 0x0A, 0x0D
_LOWER = 0x20  # the bit that makes an ASCII letter lower case
_D, _E, _L, _M, _R, _S, _T, _V = 0x64, 0x65, 0x6C, 0x6D, 0x72, 0x73, 0x74, 0x76
_LONG_S = (0xC5, 0xBF)  # U+017F, which is an s in another case


@kernel
def _contraction_end(data: np.ndarray, position: int, end: int) -> int:
    """Return where the contraction after the apostrophe at `position` ends, or `position` if there is none."""
    if position + 1 < end:
        first = data[np.uint64(position + 1)]
        if first | _LOWER in (_S, _T, _D, _M):
            return position + 2
        if position + 2 < end:
            second = data[np.uint64(position + 2)]
            if (first, second) == _LONG_S:
                return position + 3
            first |= _LOWER
            second |= _LOWER
            if (first == _L and second == _L) or (second == _E and first in (_V, _R)):
                return position + 3
    return position


@kernel
def _letters_end(data: np.ndarray, position: int, end: int, classes: np.ndarray) -> int:
    """Return where the letters from `position` on end."""
    while position < end and character_class(data, position, classes) == LETTER:
        position += character_size(data, position)
    return position


@kernel
def _signs_end(data: np.ndarray, position: int, end: int, classes: np.ndarray) -> int:
    """Return where the other signs from `position` on, and the line ends right behind them, end."""
    while position < end and character_class(data, position, classes) == OTHER:
        position += character_size(data, position)
    while position < end and data[np.uint64(position)] in (_LINE_FEED, _RETURN):
        position += 1
    return position


@kernel
def _space_end(data: np.ndarray, position: int, end: int, end_is_special: int, classes: np.ndarray) -> int:
    """Return where the piece of white space ends that starts at `position`."""
    stop, last, line_end = position, position, position
    while stop < end and character_class(data, stop, classes) == SPACE:
        last = stop
        stop += character_size(data, stop)
        if data[np.uint64(last)] in (_LINE_FEED, _RETURN):
            line_end = stop
    if stop == end and end_is_special:
        return stop
    if line_end > position:
        return line_end
    # The last white-space character before a word stays out of the run, unless it is all of it: \s+(?!\S)|\s+
    return stop if stop == end or last == position else last


@kernel
def cl100k_piece_end(
    data: np.ndarray, position: int, end: int, most_digits: int, end_is_special: int, classes: np.ndarray
) -> int:
    """Return where the pre-token that starts at `position` ends; see `bpe.text.patterns.Scanner` for the two numbers.

    `data` is valid UTF-8 (uint8), `end` the end of the text between two special tokens, `classes` the table of
    `bpe.text.unicode_classes`; `position` is less than `end` and starts a pre-token.
    """
    first = data[np.uint64(position)]
    if first == _APOSTROPHE:
        stop = _contraction_end(data, position, end)
        if stop > position:
            return stop
    kind = character_class(data, position, classes)
    after = position + character_size(data, position)
    if kind == LETTER:
        return _letters_end(data, after, end, classes)
    if kind == NUMBER:
        digits = 1
        while digits < most_digits and after < end and character_class(data, after, classes) == NUMBER:
            after += character_size(data, after)
            digits += 1
        return after
    following = character_class(data, after, classes) if after < end else SPACE
    # One sign or white-space character before letters goes with them, but a line end does not.
    if following == LETTER and first not in (_LINE_FEED, _RETURN):
        return _letters_end(data, after, end, classes)
    if kind == OTHER or (first == _BLANK and following == OTHER):
        return _signs_end(data, after, end, classes)
    return _space_end(data, position, end, end_is_special, classes)
