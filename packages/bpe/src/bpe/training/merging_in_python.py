"""Learning merges in plain Python, for inputs so small that loading the kernels would take longer."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[bytes, bytes]

_COMPLEMENT = bytes(255 - byte for byte in range(256))
_PAST_ALL_BYTES = "\u0100"


def _descending(token: bytes) -> str:
    """Return a string that sorts the other way round: first the greater bytes, and a prefix after what it begins."""
    return token.translate(_COMPLEMENT).decode("latin-1") + _PAST_ALL_BYTES


def learn_merges(counts: Mapping[bytes, int], max_merges: int) -> list[Pair]:
    """Return the merges in order, at most `max_merges`, as `bpe.reference.learn_merges` does, with less work.

    Only words that have the merged pair are touched, and the heap keeps one entry per pair whose count is an upper
    bound: it is put right when it comes to the top.
    """
    words = [[bytes([byte]) for byte in word] for word in counts]
    weights = list(counts.values())
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += weights[index]
            words_with[pair].add(index)
    heap = [_entry(pair, count) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < max_merges:
        bound, order, pair = heap[0]
        count = pair_counts[pair]
        if count != -bound:
            if count > 0:
                heapq.heapreplace(heap, (-count, order, pair))
            else:
                heapq.heappop(heap)
            continue
        heapq.heappop(heap)
        merges.append(pair)
        created: set[Pair] = set()
        for index in words_with.pop(pair):
            _merge_in_word(words[index], pair, weights[index], index, pair_counts, words_with, created)
        del pair_counts[pair]
        created.discard(pair)
        for new in created:
            if pair_counts[new] > 0:
                heapq.heappush(heap, _entry(new, pair_counts[new]))
    return merges


def _entry(pair: Pair, count: int) -> tuple[int, str, Pair]:
    """Return a heap entry: the highest count first, then the greater pair of byte strings."""
    return -count, _descending(pair[0]) + _descending(pair[1]), pair


def _merge_in_word(
    word: list[bytes],
    pair: Pair,
    weight: int,
    index: int,
    pair_counts: defaultdict[Pair, int],
    words_with: defaultdict[Pair, set[int]],
    created: set[Pair],
) -> None:
    """Merge a pair in one word, in place, and bring the counts of its neighbours up to date."""
    left, right = pair
    product = left + right
    place = 0
    while place < len(word) - 1:
        if word[place] != left or word[place + 1] != right:
            place += 1
            continue
        if place > 0:
            pair_counts[word[place - 1], left] -= weight
            created.add(_count((word[place - 1], product), weight, index, pair_counts, words_with))
        if place + 2 < len(word):
            pair_counts[right, word[place + 2]] -= weight
            created.add(_count((product, word[place + 2]), weight, index, pair_counts, words_with))
        word[place : place + 2] = [product]
        place += 1


def _count(
    pair: Pair,
    weight: int,
    index: int,
    pair_counts: defaultdict[Pair, int],
    words_with: defaultdict[Pair, set[int]],
) -> Pair:
    """Count one more occurrence of a pair, in word `index`, and return the pair."""
    pair_counts[pair] += weight
    words_with[pair].add(index)
    return pair
