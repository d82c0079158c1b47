"""Hash table from pairs of symbols to their indices.

The table is uint64 of shape (2 * capacity,) with two entries per slot: the pair (left symbol in the upper half, right
symbol in the lower) and its index. At most half of the slots are in use.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.arrays import Words, zeros
from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.tables.hashing import pair_slot

_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_HALF = np.uint64(32)


@kernel
def pair_key(left: int, right: int) -> np.uint64:
    """Return two symbols packed into one uint64."""
    return np.uint64(left) << _HALF | np.uint64(right)


@kernel
def find_pair(key: np.uint64, table: np.ndarray) -> np.int64:
    """Return the index of a pair, or -1 if it is not in the table."""
    capacity = table.shape[0] >> 1
    slot = pair_slot(key, capacity)
    while table[slot << _ONE] != key:
        if table[slot << _ONE] == _FREE:
            return np.int64(-1)
        slot = (slot + _ONE) & np.uint64(capacity - 1)
    return np.int64(table[(slot << _ONE) + _ONE])


@kernel
def insert_pair(key: np.uint64, index: int, table: np.ndarray) -> None:
    """Insert a pair that is not in the table yet."""
    capacity = table.shape[0] >> 1
    slot = pair_slot(key, capacity)
    while table[slot << _ONE] != _FREE:
        slot = (slot + _ONE) & np.uint64(capacity - 1)
    table[slot << _ONE] = key
    table[(slot << _ONE) + _ONE] = np.uint64(index)


@entry_point
def insert_pairs(pair_keys: Words, num_pairs: int, table: Words) -> None:
    """Insert the first `num_pairs` pairs into an empty table."""
    for pair in range(num_pairs):
        insert_pair(pair_keys[pair], pair, table)


def pair_table(pair_keys: np.ndarray, num_pairs: int, expected: int) -> np.ndarray:
    """Return a table of the first `num_pairs` pairs that has space for `expected` pairs."""
    table = zeros(2 << max(10, (2 * expected - 1).bit_length()), "uint64", at_once=True)
    table.fill(_FREE)
    insert_pairs(pair_keys, num_pairs, table)
    return table
