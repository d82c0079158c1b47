"""Encoding of pre-tokens of any length in linear time, by windows that are proved to fit together.

A sequence of tokens is the encoding of a text if and only if every two neighbours are the encoding of their own bytes.
The reason: until the first merge across the boundary of two tokens, all merges happen inside tokens, exactly as they
would with these two tokens alone; so that merge would happen with the two alone as well. (Noted for BPE by van
Antwerpen and Neubeck, "So many tokens, so little time", GitHub 2024; compare Berglund and van der Merwe 2023,
arXiv:2309.08715, on the same property.)

Each window is encoded, and its last tokens are dropped because the following text may change them. The next window
begins with the last token kept. If that token comes out again, both of its boundaries are proved. Otherwise larger
windows are tried, and finally the whole pre-token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Ids, Numbers, SmallNumbers, Words
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.merging.applying import SHORT, merge_long, merge_short

LONG = 192
"""Longer pre-tokens are encoded by windows."""

_DROPPED = 3


class MergeArrays(NamedTuple):
    """The parts of a tokenizer that encoding needs, read-only; the symbols of merges are ids."""

    ranks: Words
    """The merges, as `rank_table` returns them."""
    merged: SmallNumbers
    """The symbol that each merge makes: int32, shape (merges,)."""
    first_merged: int
    """The symbol that the first merge makes, if that of merge r is r more; otherwise -1."""
    byte_symbols: Numbers
    """The symbol of each byte, above all ids if it has no id: int64, shape (256,)."""
    byte_ranks: SmallNumbers
    """The ranks of the merges of two bytes, as `byte_rank_table` returns them."""
    symbol_sizes: SmallNumbers
    """The number of bytes of each symbol: int32, shape (vocab_size + 256,)."""
    vocab_size: int
    whole: Words
    """Pre-tokens with an id of their own: a table of `bpe.kernels.tables.pretokens` with ids as counts, or empty."""
    whole_bytes: Bytes
    """The arena of `whole`."""


@kernel
def space_for(length: int) -> int:
    """Return the size of the buffer with which `encode_window` encodes so many bytes."""
    return 2 * SHORT if length <= SHORT else 7 * length


@kernel
def encode_window(data: np.ndarray, start: int, length: int, merges: MergeArrays, buffer: np.ndarray) -> int:
    """Encode a range of bytes by itself to symbols in `buffer`, of `space_for` so many bytes; return their number."""
    byte_symbols = merges.byte_symbols
    if length <= SHORT:
        return merge_short(
            data, start, length, byte_symbols, merges.byte_ranks, merges.ranks, merges.merged, buffer, buffer[SHORT:]
        )
    for offset in range(length):
        buffer[offset] = byte_symbols[data[np.uint64(start + offset)]]
    return merge_long(buffer, buffer[length:], length, merges.ranks, merges.merged)


@entry_point
def encode_long_pretoken(
    data: Bytes, start: int, length: int, merges: MergeArrays, buffer: Numbers, out: Ids, written: int
) -> int:
    """Write the symbols of a pre-token to `out` from index `written`; return their number.

    A negative number says how large a buffer is needed instead; nothing is written then.
    """
    count = 0  # symbols written
    position = 0  # start of the next window: that of the last symbol written, if there is one
    size = SHORT
    previous_count, previous_position = 0, 0  # both before the last window
    failed = -1  # up to here windows keep the size they have reached
    while True:
        taken = min(size, length - position)
        if space_for(taken) > buffer.shape[0]:
            return -space_for(taken)
        number = encode_window(data, start + position, taken, merges, buffer)
        first = 0
        if count > 0:
            if buffer[0] != out[written + count - 1]:
                # The previous window was too small for its last symbol, or this one is too small for its first.
                if size >= length:
                    break
                size *= 4
                failed = max(failed, position)
                count, position = previous_count, previous_position
                continue
            first = 1
        if position + taken == length:
            for index in range(first, number):
                out[written + count + index - first] = buffer[index]
            return count + number - first
        kept = number - _DROPPED
        if kept <= first:
            size *= 4
            continue
        previous_count, previous_position = count, position
        for index in range(first, kept):
            out[written + count] = buffer[index]
            count += 1
        for index in range(kept - 1):
            position += merges.symbol_sizes[buffer[index]]
        if position > failed:
            size = SHORT
    if space_for(length) > buffer.shape[0]:
        return -space_for(length)
    number = encode_window(data, start, length, merges, buffer)
    for index in range(number):
        out[written + index] = buffer[index]
    return number
