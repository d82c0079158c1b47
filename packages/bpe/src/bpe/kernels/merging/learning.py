"""Learning of merges: the most frequent pair first, incrementally, over the positions of distinct pre-tokens.

All occurrences of a pair appear in the one step that creates its newer symbol; afterwards its count only falls.
Therefore each pair has one contiguous list of positions, written once (some positions become stale), and at most one
heap entry, whose count is an upper bound that is corrected when the entry reaches the top. Pairs below a threshold stay
out of the heap, because most of them never reach the top. When the heap is empty, the threshold is halved and these
pairs are examined again.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import entry_point, kernel
from bpe.kernels.machine.operations import prefetch
from bpe.kernels.merging.learning_state import (
    FINISHED,
    HEAP,
    LEAST_COUNT,
    MERGES,
    MOST_BYTES,
    MOST_FOUND,
    MOST_PAIRS,
    MOST_POSITIONS,
    NEW_PAIRS,
    PAIRS,
    POSITIONS,
    SEPARATOR,
    THRESHOLD,
    MergeState,
)
from bpe.kernels.tables.pair_heap import sift_down, sift_up
from bpe.kernels.tables.pairs import find_pair, insert_pair, pair_key

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_INSIDE = -2
_AHEAD = 24
"""Positions are far apart, so their cells are prefetched so many positions ahead."""


@kernel
def _size(key: np.uint64, token_size: np.ndarray) -> np.int64:
    """Return the number of bytes of a pair."""
    return token_size[key >> _HALF] + token_size[key & _LOW]


@entry_point
def merge_more(state: MergeState, until: int) -> bool:
    """Learn merges until there are `until` of them or no pair is left; return False if an array is too short before.

    The caller then makes space as `numbers` demands and calls again. Pairs outside the limits in `numbers` are never
    merged. Symbols 0-255 are the bytes, symbol 256 + k is the result of merge k, and merge k is `merges[k]`. The next
    merge is the most frequent pair and, among equals, the lexicographically greater pair of byte strings: Sennrich et
    al. 2016 (arXiv:1508.07909), algorithm 1, with this order for ties.
    """
    text, counts, cells, token_start, token_size, merges = state[:6]
    tokens = (text, token_start, token_size)
    pair_keys, pair_count, list_start, list_size, table, positions = state[6:12]
    heap, bounds, found_pair, found_at, slots, numbers = state[12:]
    num_merges, num_pairs, used = numbers[MERGES], numbers[PAIRS], numbers[POSITIONS]
    heap_size, threshold = numbers[HEAP], max(numbers[THRESHOLD], numbers[LEAST_COUNT])
    first_new = numbers[NEW_PAIRS]  # pairs from here have not been considered for the heap
    has_space = True

    while num_merges < until:
        for pair in range(first_new, num_pairs):
            if pair_count[pair] >= threshold and _size(pair_keys[pair], token_size) <= numbers[MOST_BYTES]:
                heap[heap_size], bounds[heap_size] = pair, pair_count[pair]
                sift_up(heap, bounds, pair_keys, tokens, heap_size)
                heap_size += 1
        first_new = num_pairs
        # Correct stale entries until the top one is exact; counts only fall, so it is then the greatest.
        while heap_size > 0 and bounds[0] != pair_count[heap[0]]:
            if pair_count[heap[0]] >= threshold:
                bounds[0] = pair_count[heap[0]]
            else:
                heap_size -= 1
                heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
            sift_down(heap, bounds, pair_keys, tokens, heap_size)
        if heap_size == 0:
            if threshold == numbers[LEAST_COUNT]:
                numbers[FINISHED] = 1
                break
            threshold = max(threshold >> 1, numbers[LEAST_COUNT])
            first_new = 0
            continue

        best = heap[0]
        first, stop = list_start[best], list_start[best] + list_size[best]
        # A merge makes at most two pairs at each position, and two for each symbol beside it.
        numbers[MOST_PAIRS] = num_pairs + 2 * min(stop - first, 257 + num_merges)
        numbers[MOST_POSITIONS], numbers[MOST_FOUND] = used + 2 * (stop - first), 2 * (stop - first)
        if (
            pair_keys.shape[0] < numbers[MOST_PAIRS]
            or table.shape[0] < 4 * numbers[MOST_PAIRS]
            or positions.shape[0] < numbers[MOST_POSITIONS]
            or found_pair.shape[0] < numbers[MOST_FOUND]
        ):
            has_space = False
            break
        heap_size -= 1
        heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
        sift_down(heap, bounds, pair_keys, tokens, heap_size)
        left, right = np.int32(pair_keys[best] >> _HALF), np.int32(pair_keys[best] & _LOW)
        merged = np.int32(256 + num_merges)
        merges[num_merges, 0], merges[num_merges, 1] = left, right
        num_merges += 1
        left_size, right_size = token_size[left], token_size[right]
        size = left_size + right_size
        token_size[merged] = size

        num_found = 0
        first_new = num_pairs
        overlapping = 0  # count of the pair (merged, merged), each counted as (merged, left) before its second merge
        for item in range(first, stop):
            prefetch(cells, np.int64(positions[np.uint64(min(item + _AHEAD, stop - 1))]))
            position = np.uint64(positions[np.uint64(item)])
            partner = position + np.uint64(left_size)
            if np.int32(cells[position]) != left or np.int32(cells[partner]) != right:
                continue
            pretoken = cells[position] >> 32
            weight = counts[np.uint64(pretoken)]
            following = np.int32(cells[partner + np.uint64(right_size)])
            cells[partner] = _INSIDE
            cells[position + np.uint64(size - 1)] = -size
            cells[position] = pretoken << 32 | np.int64(merged)
            token_start[merged] = np.int64(position) - pretoken - 1
            before = position - np.uint64(1)
            previous = np.int32(cells[before])
            if previous != SEPARATOR:
                if previous < 0:
                    before = position - np.uint64(-previous)
                    previous = np.int32(cells[before])
                if previous == merged:
                    overlapping += weight
                new = np.int64(slots[np.uint64(previous), 0])
                if new < first_new:
                    new = num_pairs
                    slots[np.uint64(previous), 0] = new
                    pair_keys[new], pair_count[new], list_size[new] = pair_key(previous, merged), 0, 0
                    num_pairs += 1
                pair_count[np.uint64(new)] += weight
                list_size[np.uint64(new)] += 1
                found_pair[num_found], found_at[num_found] = new, np.int32(before)
                num_found += 1
            if following != SEPARATOR:
                new = np.int64(slots[np.uint64(following), 1])
                if new < first_new:
                    new = num_pairs
                    slots[np.uint64(following), 1] = new
                    pair_keys[new], pair_count[new], list_size[new] = pair_key(merged, following), 0, 0
                    num_pairs += 1
                pair_count[np.uint64(new)] += weight
                list_size[np.uint64(new)] += 1
                found_pair[num_found], found_at[num_found] = new, np.int32(position)
                num_found += 1

        # Each new pair replaces an older one, which loses the same count.
        for pair in range(first_new, num_pairs):
            one, other = np.int32(pair_keys[pair] >> _HALF), np.int32(pair_keys[pair] & _LOW)
            if other == merged and one != merged:
                pair_count[find_pair(pair_key(one, left), table)] -= pair_count[pair]
            elif other != merged:
                pair_count[find_pair(pair_key(right, other), table)] -= pair_count[pair]
                if other == left:
                    pair_count[pair] -= overlapping
            insert_pair(pair_keys[pair], pair, table)
            list_start[pair] = used
            used += list_size[pair]
            list_size[pair] = 0
        pair_count[best] = 0
        for item in range(num_found):
            pair = found_pair[item]
            positions[list_start[pair] + list_size[pair]] = found_at[item]
            list_size[pair] += 1

    numbers[MERGES], numbers[PAIRS], numbers[POSITIONS] = num_merges, num_pairs, used
    numbers[HEAP], numbers[THRESHOLD], numbers[NEW_PAIRS] = heap_size, threshold, first_new
    return has_space
