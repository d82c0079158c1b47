"""Patterns with set operations in character classes, compared with tiktoken."""

import random

import pytest
import tiktoken

import bpe
from bpe import Tokenizer
from bpe.text import GPT2_PATTERN, check_pattern, compile_pattern, split_pretokens

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


def test_several_patterns_split_one_after_the_other():
    assert list(split_pretokens((r"\p{N}", GPT2_PATTERN), "a 12's 3b")) == ["a", " ", "1", "2", "'s", " ", "3", "b"]
    assert list(split_pretokens((GPT2_PATTERN, r"\p{N}"), "a 12's 3b")) == ["a", " ", "1", "2", "'s", " ", "3", "b"]
    assert list(split_pretokens((GPT2_PATTERN, " a"), "a a  ab")) == ["a", " a", " ", " a", "b"]
    assert list(split_pretokens(("(?=b)", "[ab]b"), "abab")) == ["a", "ba", "b"]
    assert list(split_pretokens(("a", "b"), "")) == []


def test_several_patterns_are_kept_in_one_form():
    assert check_pattern(["a"]) == check_pattern(("a",)) == check_pattern("a") == "a"
    assert check_pattern(["a", GPT2_PATTERN]) == ("a", GPT2_PATTERN)
    for wrong in ((), [], ("a", ""), ("a", b"b"), ("a", ("b",)), ("a", "("), None):
        with pytest.raises(ValueError, match=r"^pattern "):
            Tokenizer({byte: bytes([byte]) for byte in range(256)}, [], pattern=wrong)


def test_patterns_of_bytes_split_within_characters():
    """Falcon's digits are looked for among the characters that stand for bytes: ² is one of the two bytes of ò."""
    vocab = {byte: bytes([byte]) for byte in range(256)} | {256: "ò".encode(), 257: b"12"}
    merges = [("ò".encode()[:1], "ò".encode()[1:]), (b"1", b"2")]
    assert Tokenizer(vocab, merges).encode("ò12") == [256, 257]
    assert Tokenizer(vocab, merges, byte_pattern=r"\p{N}+").encode("ò12") == [0xC3, 0xB2, 257]
    assert Tokenizer(vocab, merges, byte_pattern=["[0-9]+", "[0-9]"]).encode("ò12") == [256, 49, 50]
