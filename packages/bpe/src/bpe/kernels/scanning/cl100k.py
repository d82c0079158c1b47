"""Pre-token boundaries of the patterns of cl100k, Llama 3 and Qwen, over UTF-8 bytes."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.gpt2_by_character import character_class, character_size, contraction_end, run_end
from bpe.kernels.scanning.unicode_classes import LETTER, NUMBER, OTHER, SPACE

_APOSTROPHE, _BLANK, _LINE_FEED, _RETURN = 0x27, 0x20, 0x0A, 0x0D
_LOWER = 0x20  # the bit that makes an ASCII letter lowercase


@kernel
def _others_end(data: np.ndarray, position: int, end: int, classes: np.ndarray) -> int:
    """Return the end of the run of other characters from `position` and of the line breaks right after it."""
    position = run_end(data, position, end, OTHER, classes)
    while position < end and data[np.uint64(position)] in (_LINE_FEED, _RETURN):
        position += 1
    return position


@kernel
def _space_end(data: np.ndarray, position: int, end: int, end_is_special: int, classes: np.ndarray) -> int:
    """Return the end of the white-space pre-token that starts at `position`."""
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
    # \s+(?!\S)|\s+: the last white-space character before other text starts a pre-token of its own.
    return stop if stop == end or last == position else last


@kernel
def cl100k_pretoken_end(
    data: np.ndarray, position: int, end: int, most_digits: int, end_is_special: int, classes: np.ndarray
) -> int:
    """Return the end of the pre-token that starts at `position`.

    `data` is valid UTF-8 (uint8), `end` the end of the text between two special tokens, `classes` the table of
    `unicode_classes`; `position` is less than `end` and starts a pre-token. `bpe.text.patterns.Scanner` explains
    `most_digits` and `end_is_special`.
    """
    first = data[np.uint64(position)]
    if first == _APOSTROPHE:
        stop = contraction_end(data, position, end, _LOWER)
        if stop > position:
            return stop
    kind = character_class(data, position, classes)
    after = position + character_size(data, position)
    if kind == LETTER:
        return run_end(data, after, end, LETTER, classes)
    if kind == NUMBER:
        digits = 1
        while digits < most_digits and after < end and character_class(data, after, classes) == NUMBER:
            after += character_size(data, after)
            digits += 1
        return after
    following = character_class(data, after, classes) if after < end else SPACE
    # One other character or white space before letters belongs to them, but a line break does not.
    if following == LETTER and first not in (_LINE_FEED, _RETURN):
        return run_end(data, after, end, LETTER, classes)
    if kind == OTHER or (first == _BLANK and following == OTHER):
        return _others_end(data, after, end, classes)
    return _space_end(data, position, end, end_is_special, classes)
