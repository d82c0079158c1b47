"""The data on which merges are learned, and its form before the first merge.

The pre-tokens are stored in `cells` (int64), one cell per byte, with a separator before, between and after them. The
upper half of a cell is the index of the pre-token. The lower half is the symbol that starts there; otherwise it is
negative: minus the size of the symbol that ends there, or -1 for a separator. Both neighbours of a symbol are therefore
found in one step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.tables.pairs import pair_key, pair_table

SEPARATOR = -1

MERGES, PAIRS, POSITIONS, HEAP, THRESHOLD, NEW_PAIRS, FINISHED = 0, 1, 2, 3, 4, 5, 6
"""Indices in `MergeState.numbers`: the number of each, the threshold, the first pair not yet considered for the heap,
whether no pair is left."""


class MergeState(NamedTuple):
    """The complete state between two merges; `MERGES` to `FINISHED` are indices in `numbers` (int64).

    Kernels take a state and return its fields as a tuple. Creating the state itself runs Python code, and Ctrl-C during
    that code would crash Numba.
    """

    text: np.ndarray
    counts: np.ndarray
    cells: np.ndarray
    token_start: np.ndarray
    token_size: np.ndarray
    merges: np.ndarray
    pair_keys: np.ndarray
    pair_count: np.ndarray
    list_start: np.ndarray
    list_size: np.ndarray
    table: np.ndarray
    positions: np.ndarray
    heap: np.ndarray
    bounds: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray


@kernel
def first_state(text: np.ndarray, offsets: np.ndarray, counts: np.ndarray, max_merges: int) -> tuple[np.ndarray, ...]:
    """Return the fields of the state before the first merge.

    `text` (uint8) is the concatenation of the distinct pre-tokens, `offsets` (int64, pre-tokens + 1) their bounds,
    `counts` (int64) the number of occurrences of each. At most `max_merges` can be learned.
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
                pair = np.int64(text[position]) << 8 | np.int64(text[position + 1])
                weights[pair] += counts[pretoken]
                sizes[pair] += 1
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
    numbers = np.zeros(7, dtype=np.int64)
    numbers[PAIRS], numbers[POSITIONS] = num_pairs, used
    numbers[THRESHOLD] = max(1, weights.max())
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
