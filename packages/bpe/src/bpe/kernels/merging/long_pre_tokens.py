"""Encoding pieces of any length in time proportional to it: by windows, with a proof that they fit together.

A sequence of tokens is the encoding of a text if and only if each two neighbours are the encoding of their own bytes:
up to the first merge across a border between two tokens everything happens inside of tokens, as it would with these two
alone, so that it would happen with these two alone. (Noted for BPE by van Antwerpen and Neubeck, "So many tokens, so
little time", GitHub 2024; compare Berglund and van der Merwe 2023, arXiv:2309.08715, on the same property.)

So a window is encoded, its last tokens, which what follows may change, are dropped, and the next window begins with the
last token kept. If that token comes out again, both of its borders are proved. If not, larger windows are tried, and
at last the whole piece.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.merging.applying import SHORT, merge_long, merge_short

LONG = 192
"""Pieces of more than so many bytes are worth windows."""

_DROPPED = 3


@kernel
def encode_window(
    data: np.ndarray,
    start: int,
    length: int,
    byte_symbols: np.ndarray,
    room: np.ndarray,
    rules: np.ndarray,
    products: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Return the symbols of a stretch by itself, and how many there are."""
    symbols = room[0] if length <= SHORT else np.empty(length, dtype=np.int64)
    for offset in range(length):
        symbols[offset] = byte_symbols[data[np.uint64(start + offset)]]
    if length <= SHORT:
        return symbols, merge_short(symbols, room[1], length, rules, products)
    return symbols, merge_long(symbols, length, rules, products)


@kernel
def encode_long_piece(
    data: np.ndarray,
    start: int,
    length: int,
    byte_symbols: np.ndarray,
    symbol_sizes: np.ndarray,
    room: np.ndarray,
    rules: np.ndarray,
    products: np.ndarray,
    out: np.ndarray,
    written: int,
) -> int:
    """Write the symbols of a piece to `out` from `written` on; return how many there are.

    `symbol_sizes` (int32) is the number of bytes of each symbol.
    """
    count = 0  # symbols written
    position = 0  # where the next window begins: at the last symbol written, if there is one
    size = SHORT
    previous_count, previous_position = 0, 0  # the same before the last window
    failed = -1  # up to here windows stay as large as they have become
    while True:
        taken = min(size, length - position)
        symbols, number = encode_window(data, start + position, taken, byte_symbols, room, rules, products)
        first = 0
        if count > 0:
            if symbols[0] != out[written + count - 1]:
                # Either the last window was too small for its last symbol, or this one is for its first.
                if size >= length:
                    break
                size *= 4
                failed = position
                count, position = previous_count, previous_position
                continue
            first = 1
        if position + taken == length:
            for index in range(first, number):
                out[written + count + index - first] = symbols[index]
            return count + number - first
        kept = number - _DROPPED
        if kept <= first:
            size *= 4
            continue
        previous_count, previous_position = count, position
        for index in range(first, kept):
            out[written + count] = symbols[index]
            count += 1
        for index in range(kept - 1):
            position += symbol_sizes[symbols[index]]
        if position > failed:
            size = SHORT
    symbols, number = encode_window(data, start, length, byte_symbols, room, rules, products)
    for index in range(number):
        out[written + index] = symbols[index]
    return number
