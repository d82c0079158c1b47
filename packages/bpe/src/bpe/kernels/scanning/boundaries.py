"""Pre-token boundaries of every pattern that the kernels know.

The text is read in blocks of 64 bytes, in which bit masks of character classes show the starts of pre-tokens. Each
block begins at the start of a pre-token and ends at the last start found in it, so blocks are independent of each
other. If a block has no other start, and in the last bytes of the array, pre-tokens are read character by character.
The modules `*_boundaries` have both forms: the second is the readable one, the first the fast one.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel, rare_kernel
from bpe.kernels.machine.operations import BLOCK
from bpe.kernels.scanning.deepseek_boundaries import deepseek_pretoken_end, deepseek_starts
from bpe.kernels.scanning.gpt2_boundaries import gpt2_pretoken_end, gpt2_starts
from bpe.kernels.scanning.gpt4_boundaries import gpt4_pretoken_end, gpt4_starts
from bpe.kernels.scanning.masks import ONE
from bpe.kernels.scanning.scanner import DEEPSEEK, GPT2, Scanner


@rare_kernel
def pretoken_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`, found character by character."""
    if scanner.kind == GPT2:
        return gpt2_pretoken_end(data, position, end, scanner, classes)
    if scanner.kind == DEEPSEEK:
        return deepseek_pretoken_end(data, position, end, scanner, classes)
    return gpt4_pretoken_end(data, position, end, scanner, classes)


@kernel
def block_starts(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> np.uint64:
    """Return the starts of pre-tokens in the next 64 bytes as a mask, except that of the first one.

    Args:
        data: Valid UTF-8, read-only uint8, at least 64 bytes from `position` on.
        position: The start of a pre-token, less than `end`.
        end: The end of the text between two special tokens. Within the block, it is a start, too.
        scanner: The pattern.
        classes: The table of `unicode_classes`.
    """
    size = min(end - position, BLOCK)
    if scanner.kind == GPT2:
        starts = gpt2_starts(data, position, size, end, scanner, classes)
    elif scanner.kind == DEEPSEEK:
        starts = deepseek_starts(data, position, size, scanner, classes)
    else:
        starts = gpt4_starts(data, position, size, end, scanner, classes)
    return starts & ~ONE
