"""Where the pre-tokens of GPT-2's pattern end, over UTF-8 bytes: 64 bytes at a time, by masks.

The pattern only looks at classes of characters, and a pre-token starts where the class changes:

- letters, digits and other signs form runs; a run starts where its class begins, unless the byte before is 0x20, in
  which case the pre-token has started at that space;
- white space starts one at its first character, and its last character, if something else follows, starts another;
- an apostrophe that starts one and is followed by s, d, m, t, ll, ve or re ends it after those letters.

So a class is a mask of 64 bits, and every rule is a shift and an "and not". Each block begins where a pre-token starts
and goes up to the last start found in it, so that blocks need to know nothing of each other. `scalar_boundaries.py` is
the same, character by character.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.vectors import BLOCK, byte_masks, count_ones, trailing_zeros
from bpe.kernels.scanning.cl100k import cl100k_piece_end
from bpe.kernels.scanning.gpt2_by_character import character_class, character_size, contraction_end, piece_end
from bpe.text.unicode_classes import LETTER, NUMBER, SPACE

ENDS = 256
"""So many ends are found at a time: enough for loops over them to be long, few enough to stay in the fastest cache."""

_NONE, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LAST_BIT = np.uint64(63)


@kernel
def _classify_other_characters(
    data: np.ndarray, position: int, rest: np.uint64, classes: np.ndarray
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the masks of letters, digits, white space of two and of three bytes among other than ASCII characters.

    `rest` has the bytes of these characters; all bytes of a character get its class, cut off at the end of the block.
    """
    letters, digits, double_spaces, triple_spaces = _NONE, _NONE, _NONE, _NONE
    while rest != _NONE:
        place = trailing_zeros(rest)
        size = character_size(data, position + place)
        bits = ((_ONE << np.uint64(size)) - _ONE) << np.uint64(place)
        kind = character_class(data, position + place, classes)
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
    """Return where pre-tokens start among the `size` bytes from `position`, where one starts: one bit for each byte.

    64 bytes of `data` can be read there; `end` is where the text ends. If it goes on after these bytes, what starts
    in the last of them may be missing, but nothing that starts before a start that is reported.
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
    words = (letters & ~(letters << _ONE)) | (digits & ~(digits << _ONE)) | (others & ~(others << _ONE))
    # The byte after the last one counts as white space: it either is the end, or not known yet.
    last_bytes = spaces & ~((spaces >> _ONE) | (_ONE << np.uint64(size - 1)))
    last_spaces = (
        (last_bytes & ~(double_spaces | triple_spaces))
        | ((last_bytes & double_spaces) >> _ONE)
        | ((last_bytes & triple_spaces) >> _TWO)
    )
    starts = (words & ~(blanks << _ONE)) | (spaces & ~(spaces << _ONE)) | last_spaces | _ONE
    candidates = apostrophes & starts & valid
    while candidates != _NONE:
        place = trailing_zeros(candidates)
        candidates &= candidates - _ONE
        length = contraction_end(data, position + place, position + size if size < BLOCK else end) - position - place
        if length > 0:
            starts &= ~(_TWO << np.uint64(place))
            if place + length < size:
                starts |= _ONE << np.uint64(place + length)
    return starts


@kernel
def next_ends(
    data: np.ndarray,
    position: int,
    end: int,
    scanner: tuple[int, int],
    classes: np.ndarray,
    ends: np.ndarray,
    tail: np.ndarray,
) -> int:
    """Write where the next pre-tokens end, one after the other, to `ends`; return how many: at least one.

    `data` is valid UTF-8 (uint8), `end` the end of the text between two special tokens, `scanner` that of
    `bpe.text.patterns`, `classes` the table of `bpe.text.unicode_classes`. `position` is less than `end` and starts a
    pre-token.
    `ends` (int64) is room for `ENDS` of them, `tail` (uint8) for two blocks.
    """
    count = 0
    if scanner[0] > 0:
        while count < ENDS and position < end:
            position = cl100k_piece_end(data, position, end, scanner[0], scanner[1], classes)
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
        # Four at a time: up to three too many do no harm, and the end of the loop is guessed right more often.
        for group in range(0, number, 4):
            place = np.uint64(count + group)
            ends[place] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[place + _ONE] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[place + _TWO] = position + trailing_zeros(starts)
            starts &= starts - _ONE
            ends[place + _TWO + _ONE] = position + trailing_zeros(starts)
            starts &= starts - _ONE
        count += number
        if size < BLOCK:
            ends[np.uint64(count)] = end
            count += 1
        elif count == before:
            ends[np.uint64(count)] = piece_end(data, position, end, classes)
            count += 1
        position = ends[np.uint64(count - 1)]
    return count


@kernel
def piece_ends(data: np.ndarray, scanner: tuple[int, int], classes: np.ndarray) -> np.ndarray:
    """Return where every pre-token of `data` ends: int64, shape (pre-tokens,)."""
    found = np.empty(data.shape[0] + 1, dtype=np.int64)
    ends, tail = np.empty(ENDS, dtype=np.int64), np.zeros(2 * BLOCK, dtype=np.uint8)
    count = 0
    position = 0
    while position < data.shape[0]:
        more = next_ends(data, position, data.shape[0], scanner, classes, ends, tail)
        found[count : count + more] = ends[:more]
        count += more
        position = ends[more - 1]
    return found[:count]
