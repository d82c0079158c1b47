"""Pieces of any length: windows give what merging the whole gives."""

import random

import numpy as np
import pytest
from conftest import SLOWER, data_file
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import Tokenizer
from bpe.encoding import in_python as piece_encoding
from bpe.encoding.in_python import merge_symbols
from bpe.kernels.machine.compiling import COMPILED
from bpe.kernels.merging.long_pre_tokens import LONG, encode_long_piece

MANY = 300 if COMPILED else 20


def both(tokenizer, piece):
    """Encode a piece by windows, and as a whole in Python."""
    table = tokenizer._encoder._table
    rules = table.arrays
    out = np.zeros(len(piece) + 4, dtype=np.uint32)
    data = np.frombuffer(piece, dtype=np.uint8)
    room = np.empty((2, 48), dtype=np.int64)
    number = encode_long_piece(
        data, 0, len(piece), rules.byte_symbols, rules.symbol_sizes, room, rules.table, rules.products, out, 0
    )
    return out[:number].tolist(), merge_symbols([table.byte_symbols[byte] for byte in piece], table.rules)


def test_windows_give_what_the_whole_gives():
    generator = random.Random(11)
    for _ in range(MANY):
        alphabet = b"abcd"[: generator.randint(1, 4)]
        learned = [bytes(generator.choices(alphabet, k=generator.choice([3, 30, 300]))).decode() for _ in range(20)]
        tokenizer = bpe.train_from_iterator(learned, 256 + generator.choice([1, 5, 60, 400]), [])
        pattern = bytes(generator.choices(alphabet, k=generator.randint(1, 40)))
        for piece in (
            bytes(generator.choices(alphabet, k=generator.randint(1, 3000))),
            pattern * (2000 // len(pattern)),
            (pattern * 30 + bytes(generator.choices(alphabet, k=20))) * 3,
        ):
            by_windows, as_a_whole = both(tokenizer, piece)
            assert by_windows == as_a_whole


@settings(max_examples=60)
@given(
    merges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=25),
    piece=st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab"]), min_size=60, max_size=400).map(b"".join),
)
def test_merges_in_any_order(merges, piece):
    # Merges that no training gives: products before their parts, the same product by several merges.
    tokens = [b"a", b"b"]
    pairs = []
    for left, right in merges:
        pair = tokens[left % len(tokens)], tokens[right % len(tokens)]
        if pair not in pairs and len(pair[0] + pair[1]) < 100:
            pairs.append(pair)
            tokens.append(pair[0] + pair[1])
    pairs.reverse()
    vocab = dict(enumerate(dict.fromkeys([bytes([byte]) for byte in range(256)] + tokens)))
    by_windows, as_a_whole = both(Tokenizer(vocab, pairs), piece)
    assert by_windows == as_a_whole


@pytest.mark.parametrize("unit", ["a", "ab", "-", "=", "ÃÂ", "qzxjk", "haha"])
def test_repetitions_with_the_vocabulary_of_gpt2(gpt2, unit):
    piece = (unit * (2000 // len(unit))).encode()
    assert len(piece) > LONG
    by_windows, as_a_whole = both(gpt2, piece)
    assert by_windows == as_a_whole


def test_real_text_as_one_piece(gpt2):
    for name in ("owt_valid.txt", "torture_mix.txt"):
        piece = data_file(name).read_bytes()[: 200_000 if COMPILED else 3000]
        by_windows, as_a_whole = both(gpt2, piece)
        assert by_windows == as_a_whole


@pytest.mark.parametrize("pattern", [bpe.GPT2_PATTERN, r"\w+|\W+"])
def test_a_very_long_piece_is_merged_by_a_kernel_outside_of_them_too(small, pattern):
    size, table = piece_encoding._KERNEL_BYTES // SLOWER + 1000, small._encoder._table
    for letters in "a", "abcdehilnorst":
        text = "".join(random.Random(5).choices(letters, k=size))
        expected = merge_symbols([table.byte_symbols[byte] for byte in text.encode()], table.rules)
        encoder = piece_encoding.PieceEncoder(table, pattern)
        assert encoder.encode(text) == expected
        assert encoder._merge_with_kernel(text.encode()) == expected
