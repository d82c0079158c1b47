"""State of the learning of merges, and its construction before the first merge.

The pre-tokens are stored in `cells` (int64), one cell per byte, with a separator (-1) before, between and after them.
The cell of a symbol's first byte holds the index of the pre-token in its upper half and the symbol in its lower half.
The other bytes of the symbol have negative cells, and the cell of its last byte is minus its size in bytes. Both
neighbours of a symbol are therefore found in one step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.tables.pairs import pair_key, pair_table

SEPARATOR, _INSIDE = -1, -2

MERGES, PAIRS, POSITIONS, HEAP, THRESHOLD, NEW_PAIRS, FINISHED, LEAST_COUNT, MOST_BYTES = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""Indices in `MergeState.numbers`. The first four numbers are counts: merges, pairs, positions, entries of the heap.
The next three are the threshold of the heap, the first pair not yet considered for the heap, and 1 if no pair is left.
The last two are limits that the caller may set before the first merge: the least count of a pair that is merged, and
the largest size of a token in bytes.
"""


class MergeState(NamedTuple):
    """The complete state between two merges.

    Kernels take a state, but return its fields as a plain tuple. Numba would create a named tuple by running Python
    code, and Ctrl-C during this code would crash the process.
    """

    text: np.ndarray
    """The distinct pre-tokens, joined."""
    counts: np.ndarray
    """Number of occurrences of each pre-token."""
    cells: np.ndarray
    token_start: np.ndarray
    """Start of the bytes of each symbol, in one of its occurrences in `text`."""
    token_size: np.ndarray
    """Number of bytes of each symbol."""
    merges: np.ndarray
    """Left and right symbol of each merge."""
    pair_keys: np.ndarray
    """Both symbols of each pair, packed by `pair_key`."""
    pair_count: np.ndarray
    """Number of occurrences of each pair, weighted by the counts of the pre-tokens."""
    list_start: np.ndarray
    """Start of the list of each pair in `positions`."""
    list_size: np.ndarray
    """Number of positions in the list of each pair."""
    table: np.ndarray
    """Hash table from the keys of pairs to their indices."""
    positions: np.ndarray
    """Index in `cells` of each occurrence of a pair; some are stale."""
    heap: np.ndarray
    """Indices of pairs."""
    bounds: np.ndarray
    """Upper bound of the count of each pair in `heap`."""
    slots: np.ndarray
    """Index of the newest pair, made by a merge, that begins (column 0) or ends (column 1) with each symbol; or -1."""
    numbers: np.ndarray
    """Nine int64; `MERGES` to `MOST_BYTES` are the indices."""


@kernel
def first_state(text: np.ndarray, offsets: np.ndarray, counts: np.ndarray, max_merges: int) -> tuple[np.ndarray, ...]:
    """Return the fields of the state before the first merge.

    `text` (uint8) is the concatenation of the distinct pre-tokens, `offsets` (int64, pre-tokens + 1) their bounds,
    `counts` (int64) the number of occurrences of each. The arrays have space for `max_merges` merges.
    """
    token_start = np.zeros(256 + max_merges, dtype=np.int64)
    token_size = np.ones(256 + max_merges, dtype=np.int64)
    cells = np.empty(text.shape[0] + counts.shape[0] + 1, dtype=np.int64)
    weights = np.zeros(1 << 16, dtype=np.int64)
    sizes = np.zeros(1 << 16, dtype=np.int64)
    cells[0] = SEPARATOR
    for pretoken in range(counts.shape[0]):
        for position in range(offsets[pretoken], offsets[pretoken + 1]):
            cells[position + pretoken + 1] = np.int64(pretoken) << 32 | np.int64(text[position])
            token_start[text[position]] = position
            if position + 1 < offsets[pretoken + 1]:
                two_bytes = np.int64(text[position]) << 8 | np.int64(text[position + 1])
                weights[two_bytes] += counts[pretoken]
                sizes[two_bytes] += 1
        cells[offsets[pretoken + 1] + pretoken + 1] = SEPARATOR

    num_pairs = np.count_nonzero(sizes)
    capacity = num_pairs + 1024
    pair_keys = np.empty(capacity, dtype=np.uint64)
    pair_count = np.zeros(capacity, dtype=np.int64)
    list_start = np.zeros(capacity, dtype=np.int64)
    list_size = np.zeros(capacity, dtype=np.int64)
    index_of = np.zeros(1 << 16, dtype=np.int64)
    used = 0
    found = 0
    for bytes_ in range(1 << 16):
        if sizes[bytes_] > 0:
            index_of[bytes_] = found
            pair_keys[found] = pair_key(bytes_ >> 8, bytes_ & 0xFF)
            pair_count[found] = weights[bytes_]
            list_start[found] = used
            used += sizes[bytes_]
            found += 1
    positions = np.empty(used + used // 2 + 1024, dtype=np.int32)
    for pretoken in range(counts.shape[0]):
        for position in range(offsets[pretoken], offsets[pretoken + 1] - 1):
            pair = index_of[np.int64(text[position]) << 8 | np.int64(text[position + 1])]
            positions[list_start[pair] + list_size[pair]] = position + pretoken + 1
            list_size[pair] += 1
    numbers = np.zeros(9, dtype=np.int64)
    numbers[PAIRS], numbers[POSITIONS] = num_pairs, used
    numbers[THRESHOLD] = max(1, weights.max())
    numbers[LEAST_COUNT], numbers[MOST_BYTES] = 1, np.iinfo(np.int64).max
    return (
        text,
        counts,
        cells,
        token_start,
        token_size,
        np.empty((max_merges, 2), dtype=np.int32),
        pair_keys,
        pair_count,
        list_start,
        list_size,
        pair_table(pair_keys, num_pairs, capacity),
        positions,
        np.empty(1024, dtype=np.int32),
        np.empty(1024, dtype=np.int64),
        np.full((256 + max_merges, 2), -1, dtype=np.int32),
        numbers,
    )


def state_of_symbols(
    text: np.ndarray,
    offsets: np.ndarray,
    counts: np.ndarray,
    symbols: np.ndarray,
    symbol_sizes: np.ndarray,
    max_merges: int,
) -> MergeState:
    """Return the state before the first of `max_merges` new merges, where pre-tokens consist of symbols already.

    The first three arguments are those of `first_state`. `symbols` (int32) are the symbols of all pre-tokens in order,
    and `symbol_sizes` (int64) the bytes of each symbol: 0-255 are the bytes, and the others count as merges.
    """
    known = len(symbol_sizes)
    sizes = symbol_sizes[symbols]
    starts = np.cumsum(sizes) - sizes
    pretokens = np.searchsorted(offsets, starts, side="right") - 1
    at = starts + pretokens + 1
    cells = np.full(len(text) + len(counts) + 1, _INSIDE, dtype=np.int64)
    cells[offsets + np.arange(len(offsets))] = SEPARATOR
    cells[at + sizes - 1] = -sizes
    cells[at] = pretokens << 32 | symbols
    token_start = np.zeros(known + max_merges, dtype=np.int64)
    token_size = np.ones(known + max_merges, dtype=np.int64)
    token_start[symbols], token_size[:known] = starts, symbol_sizes

    joined = np.flatnonzero(pretokens[1:] == pretokens[:-1])  # the left symbols of pairs
    keys = symbols[joined].astype(np.uint64) << np.uint64(32) | symbols[joined + 1].astype(np.uint64)
    order = np.argsort(keys, kind="stable")  # positions of a pair stay in ascending order
    pair_keys, firsts, list_size = np.unique(keys[order], return_index=True, return_counts=True)
    weights = counts[pretokens[joined[order]]]
    pair_count = np.add.reduceat(weights, firsts) if len(firsts) else np.zeros(0, dtype=np.int64)
    numbers = np.zeros(9, dtype=np.int64)
    numbers[MERGES], numbers[PAIRS], numbers[POSITIONS] = known - 256, len(pair_keys), len(keys)
    numbers[THRESHOLD] = max(1, pair_count.max(initial=0))
    numbers[LEAST_COUNT], numbers[MOST_BYTES] = 1, np.iinfo(np.int64).max
    return MergeState(
        text,
        counts,
        cells,
        token_start,
        token_size,
        np.empty((known - 256 + max_merges, 2), dtype=np.int32),
        pair_keys,
        pair_count,
        firsts.astype(np.int64),
        list_size.astype(np.int64),
        pair_table(pair_keys, len(pair_keys), len(pair_keys) + 1024),
        at[joined[order]].astype(np.int32),
        np.empty(1024, dtype=np.int32),
        np.empty(1024, dtype=np.int64),
        np.full((known + max_merges, 2), -1, dtype=np.int32),
        numbers,
    )
