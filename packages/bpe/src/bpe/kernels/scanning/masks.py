"""Bit masks over 64 bytes of text, which the kernels for each pattern share: the lowest bit is the first byte."""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.operations import leading_zeros, trailing_zeros
from bpe.kernels.scanning.characters import character_class

NONE, ONE, TWO, THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
FOUR, FIVE, SIX = np.uint64(4), np.uint64(5), np.uint64(6)
ALL, HIGHEST = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1 << 63)


@kernel
def lowest(mask: np.uint64) -> np.uint64:
    """Return the lowest one bit of a mask."""
    return mask & (~mask + ONE)


@kernel
def highest(mask: np.uint64) -> np.uint64:
    """Return the highest one bit of a mask, which has one."""
    return HIGHEST >> np.uint64(leading_zeros(mask))


@kernel
def runs(mask: np.uint64) -> np.uint64:
    """Return the first bit of each run of ones."""
    return mask & ~(mask << ONE)


@kernel
def after_runs(firsts: np.uint64, mask: np.uint64) -> np.uint64:
    """Return the bits after runs of `mask` that begin at `firsts`; a bit of `firsts` that is not in `mask` stays."""
    return (mask + firsts) & ~mask


@kernel
def along_runs(bits: np.uint64, mask: np.uint64) -> np.uint64:
    """Return the bits of `mask` from each of `bits`, which are in `mask`, to the end of its run."""
    return (((mask + bits) ^ mask) | bits) & mask


@kernel
def class_masks(
    data: np.ndarray, position: int, high: np.uint64, continuing: np.uint64, classes: np.ndarray
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Look up the characters outside ASCII; return a mask for each bit of their classes, the lowest first.

    `high` marks their bytes and `continuing` all but the first ones. All bytes of a character get its class, up to the
    end of the block.
    """
    bit0, bit1, upper, lower, mark, symbol, cjk = NONE, NONE, NONE, NONE, NONE, NONE, NONE
    rest = high & ~continuing
    while rest != NONE:
        first = lowest(rest)
        rest ^= first
        class_ = np.uint64(character_class(data, position + trailing_zeros(first), classes))
        character = lowest(~continuing & ~(first | (first - ONE))) - first  # up to the next character, or the end
        bit0 |= character & (NONE - (class_ & ONE))
        bit1 |= character & (NONE - (class_ >> ONE & ONE))
        upper |= character & (NONE - (class_ >> TWO & ONE))
        lower |= character & (NONE - (class_ >> THREE & ONE))
        mark |= character & (NONE - (class_ >> FOUR & ONE))
        symbol |= character & (NONE - (class_ >> FIVE & ONE))
        cjk |= character & (NONE - (class_ >> SIX & ONE))
    return bit0, bit1, upper, lower, mark, symbol, cjk


@kernel
def first_bytes(last: np.uint64, continuing: np.uint64) -> np.uint64:
    """Return the first bytes of characters of up to three bytes, of which `last` marks the last bytes."""
    second = (last & continuing) >> ONE
    return (last & ~continuing) | (second & ~continuing) | ((second & continuing) >> ONE)


@kernel
def digit_starts(digits: np.uint64, continuing: np.uint64, most: int) -> np.uint64:
    """Return the starts of pre-tokens of up to `most` digits; `continuing` marks all bytes but first ones."""
    if most == 1:
        return digits & ~continuing
    starts = runs(digits)
    long = digits & (digits << ONE) & (digits << TWO)
    if most > 2:
        long &= digits << THREE
    if long != NONE:
        rest = digits & ~continuing
        number = 0
        while rest != NONE:
            first = lowest(rest)
            rest ^= first
            if first & starts != NONE:
                number = 0
            elif number == most:
                starts |= first
                number = 0
            number += 1
    return starts


@kernel
def space_starts(
    spaces: np.uint64, breaks: np.uint64, continuing: np.uint64, hard: np.uint64, valid: np.uint64
) -> np.uint64:
    """Return the starts of white-space pre-tokens, and of the last white-space characters before other text.

    `breaks` are the line breaks among `spaces`. White space before `hard` characters ends as at the end of a text.
    """
    inner = spaces & ~breaks
    after_breaks = inner & (breaks << ONE)
    # White space between two line breaks starts no pre-token.
    between = after_runs(after_breaks, inner) & breaks
    while between != NONE:
        end = lowest(between)
        between ^= end
        after_breaks &= ~highest(after_breaks & (end - ONE))
    last_bytes = inner & ((valid & ~(spaces | hard)) >> ONE)
    return runs(spaces) | after_breaks | first_bytes(last_bytes, continuing)


@kernel
def known_starts(starts: np.uint64, spaces: np.uint64, valid: np.uint64, unknown: np.uint64) -> np.uint64:
    """Return the starts before the first bit of `unknown` that are not inside white space at the end of the block."""
    # The last run of white space keeps its first bit if it reaches the end, for the text after it may have line breaks.
    zeros = leading_zeros(valid & ~spaces)
    return (starts & (ALL >> np.uint64(max(zeros - 1, 0))) & (lowest(unknown) - ONE)) | ONE
