"""Learning merges: most frequent pair first, incrementally, over positions of distinct words.

Every occurrence of a pair comes into being in the one step that creates its newer member, and its count only falls
afterwards. So each pair has one contiguous list of positions, written once (some may have gone stale), and at most one
entry in the heap, whose count is an upper bound that is put right when the entry comes to the top. Pairs below a
threshold are left out of the heap: most of them never get to the top, and when the heap is empty the threshold is
halved and they are looked through.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.merging.learning_state import (
    FINISHED,
    HEAP,
    MERGES,
    NEW_PAIRS,
    PAIRS,
    POSITIONS,
    SEPARATOR,
    THRESHOLD,
    MergeState,
)
from bpe.kernels.tables.pair_heap import sift_down, sift_up
from bpe.kernels.tables.pairs import enter_pair, find_pair, pair_key, pair_table

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_INSIDE = -2


@kernel
def _enlarged(array: np.ndarray, used: int, room: int) -> np.ndarray:
    """Return `array`, or a copy with more room if it has less than `room`."""
    if array.shape[0] >= room:
        return array
    larger = np.empty(max(room, array.shape[0] + array.shape[0] // 2), dtype=array.dtype)
    larger[:used] = array[:used]
    return larger


@kernel
def merge_more(state: MergeState, until: int) -> tuple[np.ndarray, ...]:
    """Learn merges until there are `until` of them or no pair is left, and return the fields of the new state.

    The state that came in is used up.
    Symbols 0-255 are the bytes, 256 + k is the product of merge k; merge k is `merges[k]`. The next merge is the most
    frequent pair and, among equals, the lexicographically greater pair of byte strings. Sennrich et al. 2016
    (arXiv:1508.07909), algorithm 1, with this rule for ties.
    """
    words, counts, cells, token_start, token_size, merges = state[:6]
    pair_keys, pair_count, list_start, list_size, table, positions, heap, bounds, slots, numbers = state[6:]
    num_merges, num_pairs, used = numbers[MERGES], numbers[PAIRS], numbers[POSITIONS]
    heap_size, threshold = numbers[HEAP], numbers[THRESHOLD]
    first_new = numbers[NEW_PAIRS]  # the pairs from here on have not been looked at for the heap
    found_pair, found_at = np.empty(1024, dtype=np.int32), np.empty(1024, dtype=np.int32)

    while num_merges < until:
        for pair in range(first_new, num_pairs):
            if pair_count[pair] >= threshold:
                heap, bounds = _enlarged(heap, heap_size, heap_size + 1), _enlarged(bounds, heap_size, heap_size + 1)
                heap[heap_size], bounds[heap_size] = pair, pair_count[pair]
                sift_up(heap, bounds, pair_keys, words, token_start, token_size, heap_size)
                heap_size += 1
        # Put stale entries right until the top one is exact; counts only fall, so it then is the greatest.
        while heap_size > 0 and bounds[0] != pair_count[heap[0]]:
            if pair_count[heap[0]] >= threshold:
                bounds[0] = pair_count[heap[0]]
            else:
                heap_size -= 1
                heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
            sift_down(heap, bounds, pair_keys, words, token_start, token_size, heap_size)
        if heap_size == 0:
            if threshold == 1:
                numbers[FINISHED] = 1
                break
            threshold >>= 1
            first_new = 0
            continue

        merged = heap[0]
        heap_size -= 1
        heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
        sift_down(heap, bounds, pair_keys, words, token_start, token_size, heap_size)
        left, right = np.int32(pair_keys[merged] >> _HALF), np.int32(pair_keys[merged] & _LOW)
        product = np.int32(256 + num_merges)
        merges[num_merges, 0], merges[num_merges, 1] = left, right
        num_merges += 1
        left_size, right_size = token_size[left], token_size[right]
        size = left_size + right_size
        token_size[product] = size

        first, stop = list_start[merged], list_start[merged] + list_size[merged]
        if found_pair.shape[0] < 2 * (stop - first):
            found_pair = np.empty(2 * (stop - first), dtype=np.int32)
            found_at = np.empty(2 * (stop - first), dtype=np.int32)
        room = num_pairs + 2 * min(stop - first, np.int64(product) + 1)
        if pair_keys.shape[0] < room:
            pair_keys, pair_count = _enlarged(pair_keys, num_pairs, room), _enlarged(pair_count, num_pairs, room)
            list_start, list_size = _enlarged(list_start, num_pairs, room), _enlarged(list_size, num_pairs, room)
        num_found = 0
        first_new = num_pairs
        overlapping = 0  # the weight of pairs of two products, where there was a product and `left` for a moment
        for item in range(first, stop):
            position = np.uint64(positions[np.uint64(item)])
            partner = position + np.uint64(left_size)
            if np.int32(cells[position]) != left or np.int32(cells[partner]) != right:
                continue
            word = cells[position] >> 32
            weight = counts[np.uint64(word)]
            following = np.int32(cells[partner + np.uint64(right_size)])
            cells[partner] = _INSIDE
            cells[position + np.uint64(size - 1)] = -size
            cells[position] = word << 32 | np.int64(product)
            token_start[product] = np.int64(position) - word - 1
            before = position - np.uint64(1)
            previous = np.int32(cells[before])
            if previous != SEPARATOR:
                if previous < 0:
                    before = position - np.uint64(-previous)
                    previous = np.int32(cells[before])
                if previous == product:
                    overlapping += weight
                new = np.int64(slots[np.uint64(previous), 0])
                if new < first_new:
                    new = num_pairs
                    slots[np.uint64(previous), 0] = new
                    pair_keys[new], pair_count[new], list_size[new] = pair_key(previous, product), 0, 0
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
                    pair_keys[new], pair_count[new], list_size[new] = pair_key(product, following), 0, 0
                    num_pairs += 1
                pair_count[np.uint64(new)] += weight
                list_size[np.uint64(new)] += 1
                found_pair[num_found], found_at[num_found] = new, np.int32(position)
                num_found += 1

        # What a new pair has gained, the pair that stood there before has lost.
        if 4 * num_pairs > table.shape[0]:
            table = pair_table(pair_keys, first_new, 2 * num_pairs)
        for pair in range(first_new, num_pairs):
            one, other = np.int32(pair_keys[pair] >> _HALF), np.int32(pair_keys[pair] & _LOW)
            if other == product and one != product:
                pair_count[find_pair(pair_key(one, left), table)] -= pair_count[pair]
            elif other != product:
                pair_count[find_pair(pair_key(right, other), table)] -= pair_count[pair]
                if other == left:
                    pair_count[pair] -= overlapping
            enter_pair(pair_keys[pair], pair, table)
            list_start[pair] = used
            used += list_size[pair]
            list_size[pair] = 0
        pair_count[merged] = 0
        positions = _enlarged(positions, list_start[first_new] if num_pairs > first_new else used, used)
        for item in range(num_found):
            pair = found_pair[item]
            positions[list_start[pair] + list_size[pair]] = found_at[item]
            list_size[pair] += 1

    numbers[MERGES], numbers[PAIRS], numbers[POSITIONS] = num_merges, num_pairs, used
    numbers[HEAP], numbers[THRESHOLD], numbers[NEW_PAIRS] = heap_size, threshold, first_new
    return (
        words,
        counts,
        cells,
        token_start,
        token_size,
        merges,
        pair_keys,
        pair_count,
        list_start,
        list_size,
        table,
        positions,
        heap,
        bounds,
        slots,
        numbers,
    )
