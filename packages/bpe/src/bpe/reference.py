"""BPE as its definition reads, slow and obvious: the fast code is tested against this module.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units" (arXiv:1508.07909), over bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import regex

from bpe.text import GPT2_PATTERN, Pattern

Pair = tuple[bytes, bytes]


def split_special(text: str, special_tokens: Sequence[str]) -> list[str]:
    """Split a text at special tokens, the longest first; every second part is a special token."""
    if not special_tokens:
        return [text]
    alternatives = "|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True))
    return re.split(f"({alternatives})", text)


def split_pretokens(text: str, pattern: Pattern) -> list[str]:
    """Split a text at the matches of a pattern, then the parts by the next of several patterns."""
    parts = [text]
    for one in [pattern] if isinstance(pattern, str) else pattern:
        bounds = [[0, *(bound for match in regex.finditer(one, part) for bound in match.span())] for part in parts]
        parts = [
            part[start:end]
            for part, starts in zip(parts, bounds, strict=True)
            for start, end in pairwise([*starts, len(part)])
            if start < end
        ]
    return parts


def count_words(text: str, special_tokens: Sequence[str] = (), pattern: Pattern = GPT2_PATTERN) -> Counter[bytes]:
    """Count the pre-tokens of a text, without its special tokens."""
    ordinary = split_special(text, special_tokens)[::2]
    return Counter(pretoken.encode() for part in ordinary for pretoken in split_pretokens(part, pattern))


def merge_pair(pretoken: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Replace every occurrence of a pair in a pre-token by its concatenation, from left to right."""
    merged: list[bytes] = []
    index = 0
    while index < len(pretoken):
        if tuple(pretoken[index : index + 2]) == pair:
            merged.append(pair[0] + pair[1])
            index += 2
        else:
            merged.append(pretoken[index])
            index += 1
    return merged


def learn_merges(
    counts: Mapping[bytes, int],
    max_merges: int,
    *,
    min_frequency: int = 1,
    max_token_length: int | None = None,
    present: Sequence[Pair] = (),
) -> list[Pair]:
    """Return the merges in order: each the most frequent pair at its time, among equals the greater pair of bytes.

    Not merged are pairs that occur less than `min_frequency` times, or have more than `max_token_length` bytes. The
    merges in `present` are applied to the pre-tokens first.
    """
    pretokens = [(encode_word(pretoken, present), count) for pretoken, count in counts.items()]
    merges: list[Pair] = []
    while len(merges) < max_merges:
        pairs: Counter[Pair] = Counter()
        for pretoken, count in pretokens:
            for pair in pairwise(pretoken):
                pairs[pair] += count
        allowed = [
            pair
            for pair, count in pairs.items()
            if count >= min_frequency and (max_token_length is None or len(pair[0] + pair[1]) <= max_token_length)
        ]
        if not allowed:
            break
        best = max(allowed, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pretokens = [(merge_pair(pretoken, best), count) for pretoken, count in pretokens]
    return merges


def encode_word(pretoken: bytes, merges: Sequence[Pair]) -> list[bytes]:
    """Apply the merges to one pre-token; the earliest merge that applies comes first."""
    rank = {pair: index for index, pair in reversed(list(enumerate(merges)))}
    parts = [bytes([byte]) for byte in pretoken]
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
    pattern: Pattern = GPT2_PATTERN,
) -> Iterator[int]:
    """Yield the token ids of a text."""
    ids = {token: id_ for id_, token in vocab.items()}
    for index, part in enumerate(split_special(text, special_tokens)):
        if index % 2:
            yield ids[part.encode()]
            continue
        for pretoken in split_pretokens(part, pattern):
            for token in encode_word(pretoken.encode(), merges):
                yield ids[token]
