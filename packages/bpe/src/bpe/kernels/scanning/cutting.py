"""Where a long text without obvious places to cut can be cut."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.gpt2_by_character import character_class
from bpe.kernels.scanning.utf8 import well_formed_size
from bpe.text.unicode_classes import LETTER, NUMBER, OTHER, SPACE

_APOSTROPHE = 0x27


@kernel
def last_cut(data: np.ndarray, floor: int, end: int, most_digits: int, classes: np.ndarray) -> int:
    """Return the last place in data[floor + 1 : end + 1] between two pre-tokens that no other text can change, or -1.

    There the two characters differ in class, and the one before is a letter or a digit; with GPT-2's pattern, for which
    `most_digits` is 0, it may be any but white space, and an apostrophe before a letter. Both must be well-formed;
    `data` as a whole need not be.
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
