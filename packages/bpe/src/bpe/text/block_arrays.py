"""Blocks of text as the kernels take them: valid UTF-8 in an array, and where special tokens lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bpe.kernels.scanning.special_tokens import find_special_tokens
from bpe.kernels.scanning.utf8 import is_well_formed
from bpe.text.utf8 import replace_malformed

if TYPE_CHECKING:
    from bpe.text.blocks import Block
    from bpe.text.special_tokens import SpecialTokenFinder


def arrays_of(block: Block, finder: SpecialTokenFinder) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the bytes of a block (uint8, read only), its spans (int64, shape (n, 3)) and the places replaced.

    A block that does not know where its special tokens lie is searched for them, and its malformed UTF-8 is replaced.
    """
    if block.spans is not None:
        return read_only(block.data), np.array(block.spans, dtype=np.int64).reshape(-1, 3), 0
    data, replaced = read_only(block.data), 0
    if not is_well_formed(data):
        cleaned, replaced = replace_malformed(bytes(block.data))
        data = read_only(cleaned)
    return data, _spans(data, finder), replaced


def read_only(data: bytes | memoryview | np.ndarray) -> np.ndarray:
    """Return bytes as an array without copying; read only, for which alone the kernels are compiled."""
    array = np.frombuffer(data, dtype=np.uint8)
    array.flags.writeable = False
    return array


def _spans(data: np.ndarray, finder: SpecialTokenFinder) -> np.ndarray:
    """Return where special tokens lie: first byte, byte after the last, index of the token."""
    tokens, offsets, firsts, indices = finder.arrays
    spans = np.empty((len(data) >> 6 if len(indices) else 0, 3), dtype=np.int64)
    if len(indices):
        found = find_special_tokens(data, tokens, offsets, firsts, spans)
        if found > len(spans):
            spans = np.empty((found, 3), dtype=np.int64)
            find_special_tokens(data, tokens, offsets, firsts, spans)
        spans = spans[:found]
        spans[:, 2] = indices[spans[:, 2]]
    return spans
