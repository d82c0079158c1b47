"""Pre-token boundaries of every pattern that the kernels know.

The text is read in blocks of 64 bytes, in which bit masks of character classes show the starts of pre-tokens. Each
block begins at the start of a pre-token and ends at the last start found in it, so blocks are independent of each
other. If a block has no other start, and in the last bytes of the array, pre-tokens are read character by character.
The modules `*_boundaries` have both forms: the second is the readable one, the first the fast one.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers
from bpe.kernels.machine.compiling import entry_point, rare_kernel
from bpe.kernels.machine.operations import BLOCK, count_ones, leading_zeros, trailing_zeros
from bpe.kernels.scanning.deepseek_boundaries import deepseek_pretoken_end, deepseek_starts
from bpe.kernels.scanning.gpt2_boundaries import gpt2_pretoken_end, gpt2_starts
from bpe.kernels.scanning.gpt4_boundaries import gpt4_pretoken_end, gpt4_starts
from bpe.kernels.scanning.masks import NONE, ONE, THREE, TWO
from bpe.kernels.scanning.scanner import DEEPSEEK, GPT2, Scanner

ENDS = 256
"""Boundaries found per call: enough for long loops over them, few enough for the fastest cache."""


@rare_kernel
def pretoken_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`, found character by character."""
    if scanner.kind == GPT2:
        return gpt2_pretoken_end(data, position, end, scanner, classes)
    if scanner.kind == DEEPSEEK:
        return deepseek_pretoken_end(data, position, end, scanner, classes)
    return gpt4_pretoken_end(data, position, end, scanner, classes)


@entry_point
def next_ends(
    data: Bytes,
    position: int,
    end: int,
    scanner: Scanner,
    classes: Bytes,
    ends: Numbers,
) -> int:
    """Write the ends of the next pre-tokens to `ends`, in order; return their number, at least one.

    Args:
        data: Valid UTF-8, read-only uint8.
        position: The start of a pre-token, less than `end`.
        end: The end of the text between two special tokens.
        scanner: The pattern.
        classes: The table of `unicode_classes`.
        ends: Receives up to `ENDS` ends, int64.
    """
    count = 0
    while count < ENDS - BLOCK and position < end:
        starts = NONE
        if position + BLOCK <= data.shape[0]:
            size = min(end - position, BLOCK)
            if scanner.kind == GPT2:
                starts = gpt2_starts(data, position, size, end, scanner, classes)
            elif scanner.kind == DEEPSEEK:
                starts = deepseek_starts(data, position, size, scanner, classes)
            else:
                starts = gpt4_starts(data, position, size, end, scanner, classes)
        starts &= ~ONE
        if starts == NONE:
            position = pretoken_end(data, position, end, scanner, classes)
            ends[np.uint64(count)] = position
            count += 1
            continue
        number = count_ones(starts)
        # Known before the loop below ends, so that the processor can already begin with the next block.
        last = position + 63 - leading_zeros(starts)
        # Four at a time: up to three extra writes do no harm, and the end of the loop is predicted better.
        for group in range(0, number, 4):
            index = np.uint64(count + group)
            ends[index] = position + trailing_zeros(starts)
            starts &= starts - ONE
            ends[index + ONE] = position + trailing_zeros(starts)
            starts &= starts - ONE
            ends[index + TWO] = position + trailing_zeros(starts)
            starts &= starts - ONE
            ends[index + THREE] = position + trailing_zeros(starts)
            starts &= starts - ONE
        count += number
        position = last
    return count
