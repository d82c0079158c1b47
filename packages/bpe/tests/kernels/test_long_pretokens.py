"""Pre-tokens of any length: windows give the tokens of the whole."""

import random

import pytest
from helpers import SLOWER, data_file
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import Tokenizer
from bpe.encoding.in_python import PretokenEncoder, merge_symbols
from bpe.encoding.merges import Merges
from bpe.kernels.machine.compiling import COMPILED
from bpe.kernels.merging.long_pretokens import LONG
from bpe.vocabulary import TokenizerSpec

MANY = 100 if COMPILED else 20


def merges_of(tokenizer):
    return Merges(TokenizerSpec(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens))


def both(tokenizer, pretoken):
    """Encode a pre-token by windows, and as a whole in Python."""
    merges = merges_of(tokenizer)
    whole = merge_symbols([merges.byte_symbols[byte] for byte in pretoken], merges.ranks)
    return PretokenEncoder(merges, bpe.GPT2_PATTERN)._merge_with_kernel(pretoken), whole


def test_windows_give_the_tokens_of_the_whole():
    generator = random.Random(11)
    for _ in range(MANY):
        alphabet = b"abcd"[: generator.randint(1, 4)]
        learned = [bytes(generator.choices(alphabet, k=generator.choice([3, 30, 300]))).decode() for _ in range(20)]
        tokenizer = bpe.train_from_iterator(learned, 256 + generator.choice([1, 5, 60, 400]), [])
        pattern = bytes(generator.choices(alphabet, k=generator.randint(1, 40)))
        for pretoken in (
            bytes(generator.choices(alphabet, k=generator.randint(1, 3000))),
            pattern * (2000 // len(pattern)),
            (pattern * 30 + bytes(generator.choices(alphabet, k=20))) * 3,
        ):
            by_windows, as_a_whole = both(tokenizer, pretoken)
            assert by_windows == as_a_whole


@pytest.mark.parametrize(("unit", "vocab_size"), [("a", 261), ("ab", 268), ("baa", 266), ("aab", 261)])
def test_repetitions_of_what_was_learned_come_to_an_end(unit, vocab_size):
    tokenizer = bpe.train_from_iterator([unit * 1200], vocab_size, [])
    for length in range(190, 1200, 1 if COMPILED else 61):
        by_windows, as_a_whole = both(tokenizer, (unit * 1200)[-length:].encode())
        assert by_windows == as_a_whole


@given(
    merges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=25),
    pretoken=st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab"]), min_size=60, max_size=400).map(b"".join),
)
def test_merges_in_any_order(merges, pretoken):
    # Merges that no training produces: results before their parts, the same result by several merges.
    tokens = [b"a", b"b"]
    pairs = []
    for left, right in merges:
        pair = tokens[left % len(tokens)], tokens[right % len(tokens)]
        if pair not in pairs and len(pair[0] + pair[1]) < 100:
            pairs.append(pair)
            tokens.append(pair[0] + pair[1])
    pairs.reverse()
    vocab = dict(enumerate(dict.fromkeys([bytes([byte]) for byte in range(256)] + tokens)))
    by_windows, as_a_whole = both(Tokenizer(vocab, pairs), pretoken)
    assert by_windows == as_a_whole


@pytest.mark.parametrize("unit", ["a", "ab", "-", "=", "ÃÂ", "qzxjk", "haha"])
def test_repetitions_with_the_vocabulary_of_gpt2(gpt2, unit):
    pretoken = (unit * (2000 // len(unit))).encode()
    assert len(pretoken) > LONG
    by_windows, as_a_whole = both(gpt2, pretoken)
    assert by_windows == as_a_whole


def test_real_text_as_one_pretoken(gpt2):
    for name in ("owt_valid.txt", "torture_mix.txt"):
        pretoken = data_file(name).read_bytes()[: 50_000 if COMPILED else 3000]
        by_windows, as_a_whole = both(gpt2, pretoken)
        assert by_windows == as_a_whole


@pytest.mark.parametrize("pattern", [bpe.GPT2_PATTERN, r"\w+|\W+"])
def test_a_very_long_pretoken_is_merged_by_a_kernel_even_in_python(small, pattern, monkeypatch):
    monkeypatch.setattr("bpe.encoding.in_python.LONG_PRETOKEN_BYTES", 20_000 // SLOWER)
    merges = merges_of(small)
    for letters in "a", "abcdehilnorst":
        text = "".join(random.Random(5).choices(letters, k=21_000 // SLOWER))
        expected = merge_symbols([merges.byte_symbols[byte] for byte in text.encode()], merges.ranks)
        assert PretokenEncoder(merges, pattern).encode(text) == expected
