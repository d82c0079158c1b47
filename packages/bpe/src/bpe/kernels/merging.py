"""Learning merges: most frequent pair first, incrementally, over positions of distinct words.

Every occurrence of a pair comes into being in the one step that creates its newer member, and its count only falls
afterwards. So each pair has one contiguous list of positions, written once (some may have gone stale), and one entry in
the heap, whose count is an upper bound that is put right when the entry comes to the top.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.compiling import kernel
from bpe.kernels.hashing import first_slot

_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_NONE = -1


@kernel
def _pair_key(left: int, right: int) -> np.uint64:
    """Return two symbols packed into one uint64."""
    return np.uint64(left) << _HALF | np.uint64(right)


@kernel
def _pair_index(key: np.uint64, slots: np.ndarray, indices: np.ndarray, pair_keys: np.ndarray, num_pairs: int) -> int:
    """Return the index of a pair; a new pair gets index `num_pairs` and is entered under it."""
    mask = np.uint64(slots.shape[0] - 1)
    slot = first_slot(key, 0, slots.shape[0])
    while slots[slot] != _FREE:
        if slots[slot] == key:
            return indices[slot]
        slot = (slot + _ONE) & mask
    slots[slot] = key
    indices[slot] = num_pairs
    pair_keys[num_pairs] = key
    return num_pairs


@kernel
def _twice(array: np.ndarray, used: int) -> np.ndarray:
    """Return a copy of `array` with twice the room."""
    larger = np.empty(2 * array.shape[0], dtype=array.dtype)
    larger[:used] = array[:used]
    return larger


@kernel
def _larger_index(pair_keys: np.ndarray, num_pairs: int, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash table (slots, indices) with room for `capacity` slots, the known pairs entered."""
    slots = np.full(capacity, _FREE, dtype=np.uint64)
    indices = np.empty(capacity, dtype=np.int32)
    for pair in range(num_pairs):
        slot = first_slot(pair_keys[pair], 0, capacity)
        while slots[slot] != _FREE:
            slot = (slot + _ONE) & np.uint64(capacity - 1)
        slots[slot] = pair_keys[pair]
        indices[slot] = pair
    return slots, indices


@kernel
def _compare_tokens(first: int, second: int, words: np.ndarray, token_start: np.ndarray, token_size: np.ndarray) -> int:
    """Compare the bytes of two tokens like `bytes`: negative, zero or positive."""
    start, other = token_start[first], token_start[second]
    for offset in range(min(token_size[first], token_size[second])):
        if words[start + offset] != words[other + offset]:
            return 1 if words[start + offset] > words[other + offset] else -1
    return token_size[first] - token_size[second]


@kernel
def _before(
    key: np.uint64,
    count: int,
    other_key: np.uint64,
    other_count: int,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
) -> bool:
    """Say whether a pair is merged before another: the higher count, then the greater pair of byte strings."""
    if count != other_count:
        return count > other_count
    left, other_left = np.int64(key >> _HALF), np.int64(other_key >> _HALF)
    order = 0
    if left != other_left:
        order = _compare_tokens(left, other_left, words, token_start, token_size)
    if order == 0:
        right, other_right = np.int64(key & _LOW), np.int64(other_key & _LOW)
        order = _compare_tokens(right, other_right, words, token_start, token_size)
    return order > 0


@kernel
def _sift_up(
    heap: np.ndarray,
    bounds: np.ndarray,
    pair_keys: np.ndarray,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
    place: int,
) -> None:
    """Move the entry at `place` towards the top until its parent comes before it."""
    pair, bound = heap[place], bounds[place]
    while place > 0:
        parent = (place - 1) >> 1
        if not _before(pair_keys[pair], bound, pair_keys[heap[parent]], bounds[parent], words, token_start, token_size):
            break
        heap[place], bounds[place] = heap[parent], bounds[parent]
        place = parent
    heap[place], bounds[place] = pair, bound


@kernel
def _sift_down(
    heap: np.ndarray,
    bounds: np.ndarray,
    pair_keys: np.ndarray,
    words: np.ndarray,
    token_start: np.ndarray,
    token_size: np.ndarray,
    heap_size: int,
) -> None:
    """Move the entry at the top down until it comes before its children."""
    if heap_size == 0:
        return
    pair, bound = heap[0], bounds[0]
    place = 0
    while 2 * place + 1 < heap_size:
        child = 2 * place + 1
        if child + 1 < heap_size and _before(
            pair_keys[heap[child + 1]],
            bounds[child + 1],
            pair_keys[heap[child]],
            bounds[child],
            words,
            token_start,
            token_size,
        ):
            child += 1
        if not _before(pair_keys[heap[child]], bounds[child], pair_keys[pair], bound, words, token_start, token_size):
            break
        heap[place], bounds[place] = heap[child], bounds[child]
        place = child
    heap[place], bounds[place] = pair, bound


@kernel
def _file_occurrences(
    found_pair: np.ndarray,
    found_at: np.ndarray,
    num_found: int,
    first_new: int,
    num_pairs: int,
    list_start: np.ndarray,
    list_size: np.ndarray,
    positions: np.ndarray,
    used: int,
) -> int:
    """Write the lists of positions of the pairs from `first_new` on, each in order; return how much room is used."""
    list_size[first_new:num_pairs] = 0
    for item in range(num_found):
        list_size[found_pair[item]] += 1
    for pair in range(first_new, num_pairs):
        list_start[pair] = used
        used += list_size[pair]
        list_size[pair] = 0
    for item in range(num_found):
        pair = found_pair[item]
        positions[list_start[pair] + list_size[pair]] = found_at[item]
        list_size[pair] += 1
    return used


@kernel
def learn_merges(words: np.ndarray, offsets: np.ndarray, counts: np.ndarray, max_merges: int) -> np.ndarray:
    """Return the merges in order as pairs of symbols: int32, shape (merges, 2), at most `max_merges` of them.

    Symbols 0-255 are the bytes, 256 + k is the product of merge k. `words` holds the distinct words one after the
    other (uint8), `offsets` (int64, words + 1) their bounds, `counts` (int64) how often each occurs. The next merge is
    the most frequent pair and, among equals, the lexicographically greater pair of byte strings; it ends early when no
    pair is left. Sennrich et al. 2016 (arXiv:1508.07909), algorithm 1, with this rule for ties.
    """
    size = words.shape[0]
    symbols = np.empty(size, dtype=np.int32)
    after = np.empty(size, dtype=np.int32)
    before = np.empty(size, dtype=np.int32)
    word_of = np.empty(size, dtype=np.int32)
    # A token is known by one place where it stands and its length, which is all that comparing needs.
    token_start = np.zeros(256 + max_merges, dtype=np.int64)
    token_size = np.ones(256 + max_merges, dtype=np.int64)
    merges = np.empty((max_merges, 2), dtype=np.int32)

    num_pairs = 0
    pair_keys = np.empty(4096, dtype=np.uint64)
    pair_count = np.zeros(4096, dtype=np.int64)
    list_start = np.empty(4096, dtype=np.int64)
    list_size = np.empty(4096, dtype=np.int64)
    slots, indices = _larger_index(pair_keys, 0, 16384)
    found_pair = np.empty(size, dtype=np.int32)
    found_at = np.empty(size, dtype=np.int32)

    num_found = 0
    for word in range(counts.shape[0]):
        first, end = offsets[word], offsets[word + 1]
        for position in range(first, end):
            symbols[position] = words[position]
            token_start[words[position]] = position
            word_of[position] = word
            before[position] = position - 1 if position > first else _NONE
            after[position] = position + 1 if position + 1 < end else _NONE
            if position + 1 < end:
                pair = _pair_index(
                    _pair_key(words[position], words[position + 1]), slots, indices, pair_keys, num_pairs
                )
                if pair == num_pairs:
                    pair_count[pair] = 0
                    num_pairs += 1
                    if num_pairs == pair_keys.shape[0]:
                        pair_keys, pair_count = _twice(pair_keys, num_pairs), _twice(pair_count, num_pairs)
                        list_start, list_size = _twice(list_start, num_pairs), _twice(list_size, num_pairs)
                        slots, indices = _larger_index(pair_keys, num_pairs, 2 * slots.shape[0])
                pair_count[pair] += counts[word]
                found_pair[num_found] = pair
                found_at[num_found] = position
                num_found += 1
    positions = np.empty(num_found + 1024, dtype=np.int32)
    used = _file_occurrences(found_pair, found_at, num_found, 0, num_pairs, list_start, list_size, positions, 0)

    heap_size = 0
    heap = np.empty(num_pairs + 1024, dtype=np.int32)
    bounds = np.empty(num_pairs + 1024, dtype=np.int64)
    first_new = 0
    num_merges = 0
    while True:
        for pair in range(first_new, num_pairs):
            if pair_count[pair] > 0:
                if heap_size == heap.shape[0]:
                    heap, bounds = _twice(heap, heap_size), _twice(bounds, heap_size)
                heap[heap_size], bounds[heap_size] = pair, pair_count[pair]
                heap_size += 1
                _sift_up(heap, bounds, pair_keys, words, token_start, token_size, heap_size - 1)

        # Put stale entries right until the top one is exact; counts only fall, so it then is the greatest.
        while heap_size > 0 and bounds[0] != pair_count[heap[0]]:
            if pair_count[heap[0]] > 0:
                bounds[0] = pair_count[heap[0]]
            else:
                heap_size -= 1
                heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
            _sift_down(heap, bounds, pair_keys, words, token_start, token_size, heap_size)
        if heap_size == 0 or num_merges == max_merges:
            return merges[:num_merges]

        merged = heap[0]
        heap_size -= 1
        heap[0], bounds[0] = heap[heap_size], bounds[heap_size]
        _sift_down(heap, bounds, pair_keys, words, token_start, token_size, heap_size)
        left, right = np.int32(pair_keys[merged] >> _HALF), np.int32(pair_keys[merged] & _LOW)
        product = np.int32(256 + num_merges)
        merges[num_merges, 0], merges[num_merges, 1] = left, right
        num_merges += 1
        token_size[product] = token_size[left] + token_size[right]

        if found_pair.shape[0] < 2 * list_size[merged]:
            found_pair = np.empty(2 * list_size[merged], dtype=np.int32)
            found_at = np.empty(2 * list_size[merged], dtype=np.int32)
        num_found = 0
        first_new = num_pairs
        for item in range(list_start[merged], list_start[merged] + list_size[merged]):
            position = positions[item]
            partner = after[position]
            if symbols[position] != left or partner == _NONE or symbols[partner] != right:
                continue
            weight = counts[word_of[position]]
            previous, following = np.int64(before[position]), np.int64(after[partner])
            token_start[product] = position
            if previous != _NONE:
                key = _pair_key(symbols[previous], left)
                pair_count[_pair_index(key, slots, indices, pair_keys, num_pairs)] -= weight
            if following != _NONE:
                key = _pair_key(right, symbols[following])
                pair_count[_pair_index(key, slots, indices, pair_keys, num_pairs)] -= weight
                before[following] = position
            symbols[position] = product
            symbols[partner] = _NONE
            after[position] = following
            for start in (previous, np.int64(position) if following != _NONE else np.int64(_NONE)):
                if start == _NONE:
                    continue
                key = _pair_key(symbols[start], symbols[after[start]])
                pair = _pair_index(key, slots, indices, pair_keys, num_pairs)
                if pair == num_pairs:
                    pair_count[pair] = 0
                    num_pairs += 1
                    if num_pairs == pair_keys.shape[0]:
                        pair_keys, pair_count = _twice(pair_keys, num_pairs), _twice(pair_count, num_pairs)
                        list_start, list_size = _twice(list_start, num_pairs), _twice(list_size, num_pairs)
                        slots, indices = _larger_index(pair_keys, num_pairs, 2 * slots.shape[0])
                pair_count[pair] += weight
                found_pair[num_found] = pair
                found_at[num_found] = start
                num_found += 1
        pair_count[merged] = 0
        while positions.shape[0] < used + num_found:
            positions = _twice(positions, used)
        used = _file_occurrences(
            found_pair, found_at, num_found, first_new, num_pairs, list_start, list_size, positions, used
        )
