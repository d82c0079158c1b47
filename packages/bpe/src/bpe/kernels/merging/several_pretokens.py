"""Application of merges to several short pre-tokens in turns.

What a merge does to a pre-token depends on the merge before it, and its tables are too large for the fastest cache. So
a processor mostly waits while it merges one pre-token. With several in turns it works on all of them at once.

The symbols of a pre-token stay where they begin, with a symbol that no merge has before and after them. A mask tells
which of them are left. Each symbol has a key for its merge with the next one: rank and position, so that the lowest
key of all is the merge to apply.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Ids, Numbers, Words
from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.operations import leading_zeros, lowest_of_32, prefetch, store_ids, trailing_zeros
from bpe.kernels.merging.applying import NO_RANK, SYMBOL_BITS, bucket_of, merge_pair, rank_of
from bpe.kernels.merging.long_pretokens import MergeArrays

SEVERAL = 16
"""Pre-tokens merged in turns."""
LONGEST_OF_SEVERAL = 30
"""The bytes of the longest of them."""

_PLACES = 32
_PLACE_BITS = 5
_PLACE, _KEY_RANK = np.uint64(_PLACES - 1), np.uint64(_PLACE_BITS)
_NO_KEY = np.uint64(NO_RANK << _PLACE_BITS)  # the lowest key without a merge
_END = (1 << SYMBOL_BITS) - 1
_NONE, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_NO_KEYS = np.uint64(0xFFFFFFFFFFFFFFFF)
_EIGHT, _SIXTEEN = np.uint64(8), np.uint64(16)


class Several(NamedTuple):
    """Working memory for `SEVERAL` pre-tokens, and their symbols afterwards."""

    indices: Numbers
    """Which pre-tokens of the caller they are."""
    starts: Numbers
    lengths: Numbers
    left: Words
    """A mask of the places of the symbols that are left, between the ends."""
    symbols: Ids
    """32 for each pre-token."""
    keys: Ids
    """32 for each pre-token."""
    turns: Words
    """For each that is not finished, three: its index and the places of a new symbol and of the one before, the symbols
    to merge next at the first place, and those at the second."""


def several() -> Several:
    """Return new working memory, for one thread."""
    indices, starts, lengths = np.zeros((3, SEVERAL), dtype=np.int64)
    symbols, keys = np.zeros((2, SEVERAL * _PLACES), dtype=np.uint32)
    left, turns = np.zeros(SEVERAL, dtype=np.uint64), np.zeros(3 * SEVERAL, dtype=np.uint64)
    return Several(indices, starts, lengths, left, symbols, keys, turns)


@kernel
def _begin(data: np.ndarray, which: int, merges: MergeArrays, several: Several) -> None:
    """Write the symbols and keys of the bytes of a pre-token."""
    start, length, first = several.starts[which], several.lengths[which], which << _PLACE_BITS
    symbols, keys, byte_symbols, byte_ranks = several.symbols, several.keys, merges.byte_symbols, merges.byte_ranks
    for place in range(0, _PLACES, 4):
        store_ids(keys, first + place, _NO_KEYS, _NO_KEYS)
    symbols[first] = symbols[first + length + 1] = _END
    byte_before = np.uint64(data[np.uint64(start)])
    symbols[first + 1] = byte_symbols[byte_before]
    for offset in range(1, length):
        byte, at = np.uint64(data[np.uint64(start + offset)]), np.uint64(first + offset)
        symbols[at + _ONE] = byte_symbols[byte]
        keys[at] = byte_ranks[byte_before << _EIGHT | byte] << _PLACE_BITS | offset
        byte_before = byte
    several.left[which] = (_TWO << np.uint64(length + 1)) - _ONE
    several.turns[3 * which] = which


@kernel
def merge_several(data: np.ndarray, number: int, merges: MergeArrays, several: Several) -> None:
    """Merge the first `number` pre-tokens of `several`, of at most `LONGEST_OF_SEVERAL` bytes."""
    symbols, keys, turns, ranks = several.symbols, several.keys, several.turns, merges.ranks
    for which in range(number):
        _begin(data, which, merges, several)
    end = np.uint64(3 * number)
    while end > _NONE:
        turn, still = _NONE, _NONE
        while turn < end:
            which = turns[turn] & _PLACE
            turn += _THREE
            first = which << _KEY_RANK
            key = np.uint64(lowest_of_32(keys, first))
            if key >= _NO_KEY:
                continue
            at, rank = key & _PLACE, key >> _KEY_RANK
            symbol = merges.first_merged + np.int64(rank) if merges.first_merged >= 0 else np.int64(merges.merged[rank])
            # The symbol to the right of the new one disappears, and both neighbours of the new one get new keys.
            left = several.left[which]
            above = left & ~((_TWO << at) - _ONE)
            above_right = above & (above - _ONE)
            right, after = np.uint64(trailing_zeros(above)), np.uint64(trailing_zeros(above_right))
            before = np.uint64(63 - leading_zeros(left & ((_ONE << at) - _ONE)))
            several.left[which] = left ^ above ^ above_right
            symbols[first + at] = symbol
            keys[first + right] = _NO_KEY
            pair, pair_before = merge_pair(symbol, symbols[first + after]), merge_pair(symbols[first + before], symbol)
            turns[still] = which | at << _EIGHT | before << _SIXTEEN
            turns[still + _ONE], turns[still + _TWO] = pair, pair_before
            still += _THREE
            prefetch(ranks, bucket_of(pair, ranks))
            prefetch(ranks, bucket_of(pair_before, ranks))
        # The ranks of all of them are on their way by now.
        end, turn = still, _NONE
        while turn < end:
            places = turns[turn]
            first, at, before = (places & _PLACE) << _KEY_RANK, places >> _EIGHT & _PLACE, places >> _SIXTEEN
            keys[first + at] = np.uint64(rank_of(turns[turn + _ONE], ranks)) << _KEY_RANK | at
            keys[first + before] = np.uint64(rank_of(turns[turn + _TWO], ranks)) << _KEY_RANK | before
            turn += _THREE


@kernel
def take_symbols(which: int, several: Several, ids: np.ndarray) -> int:
    """Write the symbols of a merged pre-token to `ids`, and return their number."""
    left = several.left[which] & ~_ONE
    first = which << _PLACE_BITS
    number = 0
    while left & (left - _ONE) != _NONE:  # the last place is an end
        ids[number] = several.symbols[first + trailing_zeros(left)]
        number += 1
        left &= left - _ONE
    return number
