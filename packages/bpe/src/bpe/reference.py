"""BPE as its definition reads, slow and obvious: what the fast code is tested against.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units" (arXiv:1508.07909), over bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import regex

from bpe.text.patterns import GPT2_PATTERN

Pair = tuple[bytes, bytes]


def split_special(text: str, special_tokens: Sequence[str]) -> list[str]:
    """Split a text at special tokens, the longest first; every second part is a special token."""
    if not special_tokens:
        return [text]
    alternatives = "|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True))
    return re.split(f"({alternatives})", text)


def count_words(text: str, special_tokens: Sequence[str] = (), pattern: str = GPT2_PATTERN) -> Counter[bytes]:
    """Count the pre-tokens of a text, without its special tokens."""
    ordinary = split_special(text, special_tokens)[::2]
    return Counter(match.group().encode() for part in ordinary for match in regex.finditer(pattern, part))


def merge_pair(word: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Replace every occurrence of a pair in a word by its concatenation, from left to right."""
    merged: list[bytes] = []
    index = 0
    while index < len(word):
        if tuple(word[index : index + 2]) == pair:
            merged.append(pair[0] + pair[1])
            index += 2
        else:
            merged.append(word[index])
            index += 1
    return merged


def learn_merges(counts: Mapping[bytes, int], max_merges: int) -> list[Pair]:
    """Return the merges in order: each the most frequent pair of its time, the greater pair of bytes among equals."""
    words = [([bytes([byte]) for byte in word], count) for word, count in counts.items()]
    merges: list[Pair] = []
    while len(merges) < max_merges:
        pairs: Counter[Pair] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = [(merge_pair(word, best), count) for word, count in words]
    return merges


def encode_word(word: bytes, merges: Sequence[Pair]) -> list[bytes]:
    """Apply the merges to one pre-token, the earliest merge that fits first."""
    rank = {pair: index for index, pair in reversed(list(enumerate(merges)))}
    parts = [bytes([byte]) for byte in word]
    while True:
        candidates = [pair for pair in pairwise(parts) if pair in rank]
        if not candidates:
            return parts
        parts = merge_pair(parts, min(candidates, key=lambda pair: rank[pair]))


def encode(
    text: str,
    vocab: Mapping[int, bytes],
    merges: Sequence[Pair],
    special_tokens: Sequence[str] = (),
    pattern: str = GPT2_PATTERN,
) -> Iterator[int]:
    """Yield the token ids of a text."""
    ids = {token: id_ for id_, token in vocab.items()}
    for index, part in enumerate(split_special(text, special_tokens)):
        if index % 2:
            yield ids[part.encode()]
            continue
        for match in regex.finditer(pattern, part):
            for token in encode_word(match.group().encode(), merges):
                yield ids[token]
