"""Pre-token boundaries of GPT-2's pattern over UTF-8 bytes, 64 bytes at a time, by bit masks.

The pattern depends only on the classes of characters, and a pre-token starts where the class changes:

- Letters, digits and other characters form runs. A run starts a pre-token where its class begins, unless the byte
  before is 0x20; the pre-token then starts at that space.
- White space starts a pre-token at its first character. Its last character starts another if other text follows.
- An apostrophe that starts a pre-token and is followed by s, d, m, t, ll, ve or re ends it after these letters.

A class is therefore a mask of 64 bits, and every condition is a shift and an "and not". Each block begins at the start
of a pre-token and ends at the last start found in it, so blocks are independent of each other. `gpt2_by_character.py`
does the same one character at a time.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import BLOCK, byte_masks, count_ones, trailing_zeros
from bpe.kernels.scanning.cl100k import cl100k_pretoken_end
from bpe.kernels.scanning.gpt2_by_character import character_class, character_size, contraction_end, pretoken_end
from bpe.kernels.scanning.unicode_classes import LETTER, NUMBER, SPACE

ENDS = 256
"""Boundaries found per call: enough for long loops over them, few enough for the fastest cache."""

_NONE, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LAST_BIT = np.uint64(63)


@kernel
def _classify_other_characters(
    data: np.ndarray, position: int, rest: np.uint64, classes: np.ndarray
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Classify the characters outside ASCII: masks of letters, digits, white space of two, of three, of any bytes.

    `rest` marks the bytes of these characters. All bytes of a character get its class, up to the end of the block.
    """
    letters, digits, double_spaces, triple_spaces = _NONE, _NONE, _NONE, _NONE
    while rest != _NONE:
        offset = trailing_zeros(rest)
        size = character_size(data, position + offset)
        bits = ((_ONE << np.uint64(size)) - _ONE) << np.uint64(offset)
        kind = character_class(data, position + offset, classes)
        if kind == LETTER:
            letters |= bits
        elif kind == NUMBER:
            digits |= bits
        elif kind == SPACE and size == 2:
            double_spaces |= bits
        elif kind == SPACE:
            triple_spaces |= bits
        rest &= ~bits
    return letters, digits, double_spaces, triple_spaces, double_spaces | triple_spaces


@kernel
def block_starts(data: np.ndarray, position: int, size: int, end: int, classes: np.ndarray) -> np.uint64:
    """Return a mask of the pre-token starts among the `size` bytes from `position`, itself a start.

    64 bytes of `data` are readable from `position`; `end` is the end of the text. If the text continues after these
    bytes, starts near their end may be missing, but none before the last start that is returned.
    """
    letters, digits, spaces, blanks, apostrophes, high = byte_masks(data, position)
    valid = _ALL >> np.uint64(BLOCK - size)
    last_spaces = spaces
    double_spaces, triple_spaces = _NONE, _NONE
    high &= valid
    if high != _NONE:
        more_letters, more_digits, double_spaces, triple_spaces, more_spaces = _classify_other_characters(
            data, position, high, classes
        )
        letters |= more_letters
        digits |= more_digits
        spaces |= more_spaces
    letters &= valid
    digits &= valid
    spaces &= valid
    others = ~(letters | digits | spaces) & valid
    runs = (letters & ~(letters << _ONE)) | (digits & ~(digits << _ONE)) | (others & ~(others << _ONE))
    # The byte after the last one counts as white space: it is the end, or not known yet.
    last_bytes = spaces & ~((spaces >> _ONE) | (_ONE << np.uint64(size - 1)))
    last_spaces = (
        (last_bytes & ~(double_spaces | triple_spaces))
        | ((last_bytes & double_spaces) >> _ONE)
        | ((last_bytes & triple_spaces) >> _TWO)
    )
    starts = (runs & ~(blanks << _ONE)) | (spaces & ~(spaces << _ONE)) | last_spaces | _ONE
    candidates = apostrophes & starts & valid
    while candidates != _NONE:
        offset = trailing_zeros(candidates)
        candidates &= candidates - _ONE
        start = position + offset
        length = contraction_end(data, start, position + size if size < BLOCK else end, 0) - start
        if length > 0:
            starts &= ~(_TWO << np.uint64(offset))
            if offset + length < size:
                starts |= _ONE << np.uint64(offset + length)
    return starts


@entry_point
def next_ends(
    data: Bytes,
    position: int,
    end: int,
    scanner: tuple[int, int],
    classes: Bytes,
    ends: Numbers,
    tail: Bytes,
) -> int:
    """Write the ends of the next pre-tokens to `ends`, in order; return their number, at least one.

    `data` is valid UTF-8 (uint8), `end` the end of the text between two special tokens, `scanner` a
    `bpe.text.patterns.Scanner`, `classes` the table of `unicode_classes`. `position` is less than `end` and starts a
    pre-token. `ends` (int64) holds up to `ENDS` of them; `tail` (uint8) is a buffer of two blocks.
    """
    count = 0
    if scanner[0] > 0:
        while count < ENDS and position < end:
            position = cl100k_pretoken_end(data, position, end, scanner[0], scanner[1], classes)
            ends[np.uint64(count)] = position
            count += 1
        return count
    while count < ENDS - BLOCK and position < end:
        size = min(end - position, BLOCK)
        if position + BLOCK <= data.shape[0]:
            starts = block_starts(data, position, size, end, classes)
        else:
            for offset in range(size):
                tail[offset] = data[np.uint64(position + offset)]
            starts = block_starts(tail, 0, size, size, classes)
        starts &= starts - _ONE
        before = count
        number = count_ones(starts)
        # Four at a time: up to three extra writes do no harm, and the end of the loop is predicted better.
        for group in range(0, number, 4):
            index = np.uint64(count + group)
            ends[index] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[index + _ONE] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[index + _TWO] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[index + _TWO + _ONE] = position + trailing_zeros(starts)
            starts &= starts - _ONE
        count += number
        if size < BLOCK:
            ends[np.uint64(count)] = end
            count += 1
        elif count == before:
            ends[np.uint64(count)] = pretoken_end(data, position, end, classes)
            count += 1
        position = ends[np.uint64(count - 1)]
    return count
