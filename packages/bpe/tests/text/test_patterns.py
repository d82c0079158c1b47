"""Patterns with set operations in character classes, compared with tiktoken."""

import random

import pytest
import tiktoken

import bpe
from bpe import Tokenizer
from bpe.text import compile_pattern

LETTERS = "abcdexyzAZ019 -&~|[]日本ß"
KIMI_K2 = "|".join(
    [
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


@pytest.mark.parametrize(
    "pattern",
    [
        KIMI_K2,
        r"[a-z&&[^aeiou]]+|.",
        r"[a-z--[aeiou]]+|.",
        r"[a-e~~c-z]+|.",
        r"[a[bc]d]+|.",
        r"[^a-c&&[^x]]+|.",
        r"[[a-d]&&[c-e]x]+|.",
        r"[\w&&[^\d]]+|\d|.",
        r"[ab||c]+|.",
        r"(?i:ß|a)[b&&[^c]]|.",
        r"[\]\[&&[^\]]]+|.",
        r"[]a&&[^b]]+|.",
    ],
)
def test_set_operations_mean_what_they_mean_in_tiktoken(pattern):
    """Every pair of characters is a token, so the ids show where the pattern splits."""
    pairs = [(one + other).encode() for one in LETTERS for other in LETTERS]
    parts = [letter.encode()[:size] for letter in LETTERS for size in (2, 3) if len(letter.encode()) >= size]
    tokens = [bytes([byte]) for byte in range(256)] + list(dict.fromkeys([*parts, *pairs]))
    ranks = {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    vocab = {rank: token for token, rank in ranks.items()}
    merges = [
        (token[:size], token[size:])
        for token in ranks
        for size in range(1, len(token))
        if token[:size] in ranks and token[size:] in ranks
    ]
    ours = Tokenizer(vocab, merges, [], pattern=pattern, ignore_merges=True)
    chance = random.Random(0)
    for _ in range(300):
        text = "".join(chance.choices(LETTERS, k=chance.randint(0, 12))) + chance.choice(["", "the world", "A日's B"])
        got, expected = ours.encode(text), theirs.encode(text, disallowed_special=())
        assert ours.decode_bytes(got) == theirs.decode_bytes(expected)
        assert splits(ours, got) == splits(ours, expected), text


def splits(tokenizer, ids):
    return [tokenizer.decode_bytes([id_]) for id_ in ids]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"[a-z&&[^b]--x]|.", "has && and -- in one character class, whose order differs between engines"),
        (r"[a||b&&c]", r"has && and \|\| in one character class"),
        (r"[a-z[]+|.", "is not a regular expression of the `regex` module: unterminated character set"),
    ],
)
def test_classes_that_engines_read_differently_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        compile_pattern(pattern)
    with pytest.raises(ValueError, match=message):
        bpe.train_from_iterator(["a"], 300, pattern=pattern)
