r"""Pre-token boundaries of GPT-2's pattern, character by character and, from a block of 64 bytes, by bit masks.

    '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

The pattern depends only on the classes of characters, and a pre-token starts where the class changes:

- Letters, digits and other characters form runs. A run starts a pre-token where its class begins, unless the byte
  before is 0x20; the pre-token then starts at that space.
- White space starts a pre-token at its first character. Its last character starts another if other text follows.
- An apostrophe that starts a pre-token and is followed by s, d, m, t, ll, ve or re ends it after these letters.

A class is therefore a mask of 64 bits, and every condition is a shift and an "and not".

If `Scanner.most_digits` is 1, every digit is split off first (StarCoder, SmolLM, Granite, Command-R). As far as the
pattern is concerned, the text then ends before a digit.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.operations import BLOCK, byte_masks, range_mask, trailing_zeros
from bpe.kernels.scanning.characters import (
    APOSTROPHE,
    BLANK,
    character_kind,
    character_size,
    contraction_end,
    run_end,
)
from bpe.kernels.scanning.masks import ALL, NONE, ONE, TWO, first_bytes, kind_masks, runs
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.scanning.unicode_classes import NUMBER, SPACE


@kernel
def gpt2_pretoken_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`; the arguments are those of `block_starts`."""
    first = data[np.uint64(position)]
    if first == APOSTROPHE:
        stop = contraction_end(data, position, end, False)
        if stop > position:
            return stop
    kind = character_kind(data, position, classes)
    after = position + character_size(data, position)
    if kind == NUMBER and scanner.most_digits:
        return after
    if first == BLANK and after < end:
        following = character_kind(data, after, classes)
        if following != SPACE and not (following == NUMBER and scanner.most_digits):
            return run_end(data, after, end, following, classes)
    if kind != SPACE:
        return run_end(data, after, end, kind, classes)
    last, stop = position, after
    while stop < end and character_kind(data, stop, classes) == SPACE:
        last = stop
        stop += character_size(data, stop)
    # \s+(?!\S)|\s+: the last white-space character before other text starts a pre-token of its own.
    at_end = stop == end or (scanner.most_digits and character_kind(data, stop, classes) == NUMBER)
    return stop if at_end or last == position else last


@kernel
def gpt2_starts(
    data: np.ndarray, position: int, size: int, end: int, scanner: Scanner, classes: np.ndarray
) -> np.uint64:
    """Return a mask of the pre-token starts among the `size` bytes from `position`, which is one of them.

    64 bytes of `data` are readable from `position`; `end` is the end of the text. Starts near the end of the bytes may
    be missing, but none before the last start that is returned.
    """
    letters, digits, spaces, blanks, apostrophes, high = byte_masks(data, position)
    valid = ALL >> np.uint64(BLOCK - size)
    high &= valid
    continuing = NONE
    if high != NONE:
        continuing = range_mask(data, position, 0x80, 0x40)
        more_letters, more_digits, more_spaces = kind_masks(data, position, high, continuing, classes)
        letters |= more_letters
        digits |= more_digits
        spaces |= more_spaces
    letters &= valid
    digits &= valid
    spaces &= valid
    others = ~(letters | digits | spaces) & valid
    # The byte after the last one counts as white space: it is the end, or not known yet.
    last_bytes = spaces & ~((spaces >> ONE) | (ONE << np.uint64(size - 1)))
    run_starts = runs(letters) | runs(others)
    single_digits = NONE
    if scanner.most_digits:  # every digit is a part of its own, and white space before it ends a part
        single_digits = digits & ~continuing
        last_bytes &= ~(digits >> ONE)
    else:
        run_starts |= runs(digits)
    last_spaces = first_bytes(last_bytes, continuing)
    starts = (run_starts & ~(blanks << ONE)) | runs(spaces) | last_spaces | single_digits | ONE
    candidates = apostrophes & starts & valid
    while candidates != NONE:
        offset = trailing_zeros(candidates)
        candidates &= candidates - ONE
        start = position + offset
        length = contraction_end(data, start, end, False) - start
        if length > 0:
            starts &= ~(TWO << np.uint64(offset))
            if offset + length < size:
                starts |= ONE << np.uint64(offset + length)
    return starts
