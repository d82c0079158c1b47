"""What learning merges works on, before the first merge.

The words lie in `cells` (int64), one for each byte with a separator before, between and after the words. The upper
half of a cell is the number of the word. The lower half is the symbol that starts there; where none does, it is
negative: the size of the symbol that ends there, turned round, or -1 for a separator. So both neighbours of a symbol
are near.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.tables.pairs import pair_key, pair_table

SEPARATOR = -1

MERGES, PAIRS, POSITIONS, HEAP, THRESHOLD, NEW_PAIRS, FINISHED = 0, 1, 2, 3, 4, 5, 6
"""Places in `MergeState.numbers`: how many there are of each, the threshold, the first pair not yet looked at for the
heap, whether no pair is left."""


class MergeState(NamedTuple):
    """Everything between two merges; `numbers` (int64) holds what `MERGES` to `FINISHED` say.

    Kernels take one and return its fields: making one runs Python code, and Ctrl-C within that would end Numba.
    """

    words: np.ndarray
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
def first_state(words: np.ndarray, offsets: np.ndarray, counts: np.ndarray, max_merges: int) -> tuple[np.ndarray, ...]:
    """Return the fields of the state before the first merge.

    `words` holds the distinct words one after the other (uint8), `offsets` (int64, words + 1) their bounds, `counts`
    (int64) how often each occurs; at most `max_merges` can be learned.
    """
    token_start = np.zeros(256 + max_merges, dtype=np.int64)
    token_size = np.ones(256 + max_merges, dtype=np.int64)
    cells = np.empty(words.shape[0] + counts.shape[0] + 1, dtype=np.int64)
    weights = np.zeros(1 << 16, dtype=np.int64)
    sizes = np.zeros(1 << 16, dtype=np.int64)
    cells[0] = SEPARATOR
    for word in range(counts.shape[0]):
        for place in range(offsets[word], offsets[word + 1]):
            cells[place + word + 1] = np.int64(word) << 32 | np.int64(words[place])
            token_start[words[place]] = place
            if place + 1 < offsets[word + 1]:
                pair = np.int64(words[place]) << 8 | np.int64(words[place + 1])
                weights[pair] += counts[word]
                sizes[pair] += 1
        cells[offsets[word + 1] + word + 1] = SEPARATOR

    num_pairs = np.count_nonzero(sizes)
    room = num_pairs + 1024
    pair_keys = np.empty(room, dtype=np.uint64)
    pair_count = np.zeros(room, dtype=np.int64)
    list_start = np.zeros(room, dtype=np.int64)
    list_size = np.zeros(room, dtype=np.int64)
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
    for word in range(counts.shape[0]):
        for place in range(offsets[word], offsets[word + 1] - 1):
            pair = index_of[np.int64(words[place]) << 8 | np.int64(words[place + 1])]
            positions[list_start[pair] + list_size[pair]] = place + word + 1
            list_size[pair] += 1
    numbers = np.zeros(7, dtype=np.int64)
    numbers[PAIRS], numbers[POSITIONS] = num_pairs, used
    numbers[THRESHOLD] = max(1, weights.max())
    return (
        words,
        counts,
        cells,
        token_start,
        token_size,
        np.empty((max_merges, 2), dtype=np.int32),
        pair_keys,
        pair_count,
        list_start,
        list_size,
        pair_table(pair_keys, num_pairs, room),
        positions,
        np.empty(1024, dtype=np.int32),
        np.empty(1024, dtype=np.int64),
        np.full((256 + max_merges, 2), -1, dtype=np.int32),
        numbers,
    )
