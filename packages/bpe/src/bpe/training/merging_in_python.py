"""Learning of merges in plain Python, for inputs so small that loading the kernels would take longer."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from bpe.training.limits import NO_LIMITS, Limits

Pair = tuple[bytes, bytes]
Split = Callable[[bytes], Sequence[bytes]]
"""A function from a pre-token to its tokens before the first merge."""

_COMPLEMENT = bytes(255 - byte for byte in range(256))
_PAST_ALL_BYTES = "\u0100"


def _descending(token: bytes) -> str:
    """Return a string that sorts in reverse: greater bytes first, and a prefix after the longer strings it begins."""
    return token.translate(_COMPLEMENT).decode("latin-1") + _PAST_ALL_BYTES


def single_bytes(pretoken: bytes) -> list[bytes]:
    """Return the bytes of a pre-token, each by itself."""
    return [bytes([byte]) for byte in pretoken]


def learn_merges_in_python(
    counts: Mapping[bytes, int],
    max_merges: int,
    limits: Limits = NO_LIMITS,
    *,
    split: Split = single_bytes,
) -> list[Pair]:
    """Return at most `max_merges` merges in order, like `bpe.reference.learn_merges` but with less work.

    Only pre-tokens that contain the merged pair are visited. The heap has one entry per pair, whose count is an upper
    bound that is corrected when the entry reaches the top. Pairs that are too long or too rare never enter it.
    """
    pretokens = [list(split(pretoken)) for pretoken in counts]
    weights = list(counts.values())
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    pretokens_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, pretoken in enumerate(pretokens):
        for pair in pairwise(pretoken):
            pair_counts[pair] += weights[index]
            pretokens_with[pair].add(index)

    def allowed(pair: Pair) -> bool:
        return pair_counts[pair] >= limits.min_frequency and limits.allow_size(len(pair[0]) + len(pair[1]))

    heap = [_entry(pair, count) for pair, count in pair_counts.items() if allowed(pair)]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < max_merges:
        bound, order, pair = heap[0]
        count = pair_counts[pair]
        if count != -bound:
            if count >= limits.min_frequency:
                heapq.heapreplace(heap, (-count, order, pair))
            else:
                heapq.heappop(heap)
            continue
        heapq.heappop(heap)
        merges.append(pair)
        created: set[Pair] = set()
        for index in pretokens_with.pop(pair):
            _merge_in_pretoken(pretokens[index], pair, weights[index], index, pair_counts, pretokens_with, created)
        del pair_counts[pair]
        created.discard(pair)
        for new in created:
            if allowed(new):
                heapq.heappush(heap, _entry(new, pair_counts[new]))
    return merges


def _entry(pair: Pair, count: int) -> tuple[int, str, Pair]:
    """Return a heap entry; the highest count sorts first, then the greater pair of byte strings."""
    return -count, _descending(pair[0]) + _descending(pair[1]), pair


def _merge_in_pretoken(
    pretoken: list[bytes],
    pair: Pair,
    weight: int,
    index: int,
    pair_counts: defaultdict[Pair, int],
    pretokens_with: defaultdict[Pair, set[int]],
    created: set[Pair],
) -> None:
    """Merge a pair in one pre-token, in place, and update the counts of the neighbouring pairs."""
    left, right = pair
    merged = left + right
    position = 0
    while position < len(pretoken) - 1:
        if pretoken[position] != left or pretoken[position + 1] != right:
            position += 1
            continue
        if position > 0:
            pair_counts[pretoken[position - 1], left] -= weight
            created.add(_count((pretoken[position - 1], merged), weight, index, pair_counts, pretokens_with))
        if position + 2 < len(pretoken):
            pair_counts[right, pretoken[position + 2]] -= weight
            created.add(_count((merged, pretoken[position + 2]), weight, index, pair_counts, pretokens_with))
        pretoken[position : position + 2] = [merged]
        position += 1


def _count(
    pair: Pair,
    weight: int,
    index: int,
    pair_counts: defaultdict[Pair, int],
    pretokens_with: defaultdict[Pair, set[int]],
) -> Pair:
    """Count another occurrence of a pair, in the pre-token of this index, and return the pair."""
    pair_counts[pair] += weight
    pretokens_with[pair].add(index)
    return pair
