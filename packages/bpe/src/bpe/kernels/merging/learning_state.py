"""State of the learning of merges, and its construction before the first merge.

The pre-tokens are stored in `cells` (int64), one cell per byte, with a separator (-1) before, between and after them.
The cell of a symbol's first byte holds the index of the pre-token in its upper half and the symbol in its lower half.
The other bytes of the symbol have negative cells, and the cell of its last byte is minus its size in bytes. Both
neighbours of a symbol are therefore found in one step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bpe.kernels.machine.arrays import Bytes, Numbers, SmallNumbers, SmallPairs, Words, zeros
from bpe.kernels.machine.compiling import entry_point
from bpe.kernels.tables.pairs import pair_table

SEPARATOR, _INSIDE = -1, -2

_RESERVED = 4
"""Positions for which space is reserved, as a multiple of those before the first merge. Most texts need no more."""

(
    MERGES,
    PAIRS,
    POSITIONS,
    HEAP,
    THRESHOLD,
    NEW_PAIRS,
    FINISHED,
    LEAST_COUNT,
    MOST_BYTES,
    MOST_PAIRS,
    MOST_POSITIONS,
    MOST_FOUND,
) = range(12)
"""Indices in `MergeState.numbers`. The first four numbers are counts: merges, pairs, positions, entries of the heap.
The next three are the threshold of the heap, the first pair not yet considered for the heap, and 1 if no pair is left.
Two are limits that the caller may set before the first merge: the least count of a pair that is merged, and the largest
size of a token in bytes. The last three say for how many pairs, positions and positions of one merge the next merge
needs space.
"""


class MergeState(NamedTuple):
    """The complete state between two merges."""

    text: Bytes
    """The distinct pre-tokens, joined."""
    counts: Numbers
    """Number of occurrences of each pre-token."""
    cells: Numbers
    token_start: Numbers
    """Start of the bytes of each symbol, in one of its occurrences in `text`."""
    token_size: Numbers
    """Number of bytes of each symbol."""
    merges: SmallPairs
    """Left and right symbol of each merge."""
    pair_keys: Words
    """Both symbols of each pair, packed by `pair_key`."""
    pair_count: Numbers
    """Number of occurrences of each pair, weighted by the counts of the pre-tokens."""
    list_start: Numbers
    """Start of the list of each pair in `positions`."""
    list_size: Numbers
    """Number of positions in the list of each pair."""
    table: Words
    """Hash table from the keys of pairs to their indices."""
    positions: SmallNumbers
    """Index in `cells` of each occurrence of a pair; some are stale."""
    heap: SmallNumbers
    """Indices of pairs; each pair is there at most once."""
    bounds: Numbers
    """Upper bound of the count of each pair in `heap`."""
    found_pair: SmallNumbers
    found_at: SmallNumbers
    """The pairs that a merge makes and their positions."""
    slots: SmallPairs
    """Index of the newest pair, made by a merge, that begins (column 0) or ends (column 1) with each symbol; or -1."""
    numbers: Numbers
    """`MERGES` to `MOST_FOUND` are the indices."""


@entry_point
def fill_cells(
    text: Bytes,
    offsets: Numbers,
    counts: Numbers,
    cells: Numbers,
    token_start: Numbers,
    weights: Numbers,
    sizes: Numbers,
) -> None:
    """Write the cells of the pre-tokens, the start of each byte in `text`, and the statistics of pairs of bytes.

    `offsets` (pre-tokens + 1) are the bounds of the pre-tokens in `text`. `weights` and `sizes` (65,536 each, zeros)
    receive the number of occurrences and of positions of each pair, at the index 256 * first byte + second byte.
    """
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


@entry_point
def list_positions(text: Bytes, offsets: Numbers, next_of: Numbers, positions: SmallNumbers) -> None:
    """Write the positions of each pair of bytes from where `next_of` says, which moves on."""
    for pretoken in range(offsets.shape[0] - 1):
        for position in range(offsets[pretoken], offsets[pretoken + 1] - 1):
            two_bytes = np.int64(text[position]) << 8 | np.int64(text[position + 1])
            positions[next_of[two_bytes]] = position + pretoken + 1
            next_of[two_bytes] += 1


def first_state(text: np.ndarray, offsets: np.ndarray, counts: np.ndarray, max_merges: int) -> MergeState:
    """Return the state before the first merge, with space for `max_merges` merges.

    `text` (uint8) is the concatenation of the distinct pre-tokens, `offsets` (int64, pre-tokens + 1) their bounds,
    `counts` (int64) the number of occurrences of each.
    """
    token_start = np.zeros(256 + max_merges, dtype=np.int64)
    cells = zeros(len(text) + len(counts) + 1, "int64")
    weights, sizes = np.zeros((2, 1 << 16), dtype=np.int64)
    fill_cells(text, offsets, counts, cells, token_start, weights, sizes)

    pairs = np.flatnonzero(sizes)
    next_of = np.cumsum(sizes) - sizes
    list_start = next_of[pairs]
    positions = zeros(_RESERVED * int(sizes.sum()) + 1024, "int32")
    list_positions(text, offsets, next_of, positions)
    return _first_state(
        text,
        counts,
        cells,
        token_start,
        np.ones(256 + max_merges, dtype=np.int64),
        (pairs >> 8 << 32 | pairs & 0xFF).astype(np.uint64),
        weights[pairs],
        list_start,
        sizes[pairs],
        positions,
        int(sizes.sum()),
        known=0,
    )


def with_space(state: MergeState) -> MergeState:
    """Return the state with all the space that its next merge needs."""
    numbers = state.numbers.tolist()
    pairs, heap = numbers[PAIRS], numbers[HEAP]
    capacity = numbers[MOST_PAIRS]
    if len(state.table) < 4 * capacity:
        state = state._replace(table=pair_table(state.pair_keys, pairs, 2 * capacity))
    used = dict.fromkeys(("pair_keys", "pair_count", "list_start", "list_size"), pairs) | {"heap": heap, "bounds": heap}
    needs = [(name, size, capacity) for name, size in used.items()]
    needs.append(("positions", numbers[POSITIONS], numbers[MOST_POSITIONS]))
    needs += [(name, 0, numbers[MOST_FOUND]) for name in ("found_pair", "found_at")]
    return state._replace(**{name: _enlarged(getattr(state, name), *sizes) for name, *sizes in needs})


def _enlarged(array: np.ndarray, used: int, capacity: int) -> np.ndarray:
    """Return `array`, or a larger copy of its first `used` elements if it is shorter than `capacity`."""
    if len(array) >= capacity:
        return array
    larger = zeros(max(capacity, len(array) + len(array) // 2), array.dtype.name)
    larger[:used] = array[:used]
    return larger


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
    return _first_state(
        text,
        counts,
        cells,
        token_start,
        token_size,
        pair_keys,
        pair_count,
        firsts.astype(np.int64),
        list_size.astype(np.int64),
        at[joined[order]].astype(np.int32),
        len(joined),
        known=known - 256,
    )


def _first_state(
    text: np.ndarray,
    counts: np.ndarray,
    cells: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
    pair_keys: np.ndarray,
    pair_count: np.ndarray,
    list_start: np.ndarray,
    list_size: np.ndarray,
    positions: np.ndarray,
    used: int,
    *,
    known: int,
) -> MergeState:
    """Return the state with these fields after `known` merges, with space for some pairs and positions more.

    The first `used` elements of `positions` are in use.
    """
    pairs = len(pair_keys)
    numbers = np.zeros(12, dtype=np.int64)
    numbers[MERGES], numbers[PAIRS], numbers[POSITIONS] = known, pairs, used
    numbers[THRESHOLD] = max(1, pair_count.max(initial=0))
    numbers[LEAST_COUNT], numbers[MOST_BYTES] = 1, np.iinfo(np.int64).max
    capacity = pairs + 1024
    return MergeState(
        text=text,
        counts=counts,
        cells=cells,
        token_start=token_start,
        token_size=token_size,
        merges=np.empty((len(token_size) - 256, 2), dtype=np.int32),
        pair_keys=_enlarged(pair_keys, pairs, capacity),
        pair_count=_enlarged(pair_count, pairs, capacity),
        list_start=_enlarged(list_start, pairs, capacity),
        list_size=_enlarged(list_size, pairs, capacity),
        table=pair_table(pair_keys, pairs, capacity),
        positions=_enlarged(positions, used, _RESERVED * used + 1024),
        heap=np.empty(capacity + capacity // 2, dtype=np.int32),
        bounds=np.empty(capacity + capacity // 2, dtype=np.int64),
        found_pair=np.empty(1024, dtype=np.int32),
        found_at=np.empty(1024, dtype=np.int32),
        slots=np.full((len(token_size), 2), -1, dtype=np.int32),
        numbers=numbers,
    )
