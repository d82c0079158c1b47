"""Counting and merging by both engines, against the slow reference."""

import random

import pytest
from helpers import CORPUS, EOT, SLOWER, data_file
from hypothesis import given
from hypothesis import strategies as st

from bpe import GPT2_PATTERN, PretokenCounts, reference
from bpe.text import Block, BlockCutter, SpecialTokenFinder, scanner_of
from bpe.training import Limits
from bpe.training.counting import KernelCounter, PythonCounter, count_with
from bpe.training.learning import learn_merges, learn_merges_with_kernels
from bpe.training.merging_in_python import learn_merges_in_python

ENGINES = [learn_merges_in_python, learn_merges_with_kernels]


def counters(finder):
    return PythonCounter(finder, GPT2_PATTERN), KernelCounter(finder, GPT2_PATTERN, scanner_of(GPT2_PATTERN))


counts_with_ties = st.dictionaries(
    st.text(alphabet="aab", min_size=1, max_size=12).map(str.encode), st.integers(1, 3), min_size=1, max_size=8
)


@pytest.mark.parametrize("learn", ENGINES)
@given(counts=counts_with_ties, number=st.integers(0, 30))
def test_merges_of_runs_and_ties_equal_the_reference(learn, counts, number):
    assert learn(PretokenCounts(counts), number) == reference.learn_merges(counts, number)


@pytest.mark.parametrize("learn", ENGINES)
@given(counts=st.dictionaries(st.binary(min_size=1, max_size=10), st.integers(1, 2**40), max_size=10))
def test_merges_of_any_bytes_equal_the_reference(learn, counts):
    assert learn(PretokenCounts(counts), 50) == reference.learn_merges(counts, 50)


@pytest.mark.parametrize("learn", ENGINES)
@given(
    counts=st.one_of(
        counts_with_ties, st.dictionaries(st.binary(min_size=1, max_size=9), st.integers(1, 40), max_size=9)
    ),
    number=st.integers(0, 40),
    least=st.integers(0, 12),
    longest=st.one_of(st.none(), st.integers(1, 12)),
)
def test_rare_pairs_and_long_tokens_are_left_out_as_by_the_reference(learn, counts, number, least, longest):
    expected = reference.learn_merges(counts, number, min_frequency=least, max_token_length=longest)
    assert learn(PretokenCounts(counts), number, Limits.checked(least, longest)) == expected


@pytest.mark.parametrize("learn", ENGINES)
def test_limits_at_their_boundaries(learn):
    counts = PretokenCounts({b"abcd": 5, b"xy": 3, b"xyz": 1})
    every = [(b"c", b"d"), (b"b", b"cd"), (b"a", b"bcd"), (b"x", b"y"), (b"xy", b"z")]
    assert learn(counts, 9, Limits(1, 4)) == learn(counts, 9) == every
    assert learn(counts, 9, Limits(2, None)) == learn(counts, 9, Limits(4, None)) == every[:4]
    assert learn(counts, 9, Limits(5, None)) == every[:3]
    assert learn(counts, 9, Limits(6, None)) == learn(counts, 9, Limits(2**70, None)) == []
    # Every pair that makes at most three bytes: (b"a", b"b") remains when (b"a", b"bcd") is too long.
    assert learn(counts, 9, Limits(1, 3)) == [(b"c", b"d"), (b"b", b"cd"), (b"x", b"y"), (b"xy", b"z")]
    assert learn(counts, 9, Limits(1, 2)) == [(b"c", b"d"), (b"a", b"b"), (b"x", b"y")]
    assert learn(counts, 9, Limits(1, 1)) == []


@pytest.mark.parametrize("learn", ENGINES)
def test_merges_of_random_corpora_equal_the_reference(learn):
    generator = random.Random(20)
    for _ in range(60):
        alphabet = "ab" if generator.random() < 0.5 else "abcdé "
        special = generator.choice([[], [EOT], ["ab", "aba"], ["<a", "<a b>"]])
        text = "".join(generator.choices([*alphabet, *special, "aaaa"], k=300))
        counts = reference.count_words(text, special)
        for counter in counters(SpecialTokenFinder(special)):
            assert count_with(counter, [Block(text.encode())], 1) == counts
        assert learn(PretokenCounts(counts), 60) == reference.learn_merges(counts, 60)


def test_the_kernels_grow_as_needed():
    generator = random.Random(3)
    counts = {generator.randbytes(generator.randint(1, 12)): generator.randint(1, 5) for _ in range(9000)}
    assert learn_merges_with_kernels(PretokenCounts(counts), 700) == learn_merges_in_python(counts, 700)


def test_counts_above_32_bits_are_right():
    counts = {b"ab": 2**33, b"cd": 2**33 + 1}
    for learn in ENGINES:
        assert learn(PretokenCounts(counts), 2) == [(b"c", b"d"), (b"a", b"b")]


def test_counts_whose_sums_pass_64_bits_are_exact():
    most = 2**63 - 1
    counts = {b"abx": most, b"aby": most, b"cd": 5, b"cde": 7}
    loaded = PretokenCounts.from_arrays(*PretokenCounts(counts).arrays())
    assert (loaded.total, loaded.total_bytes) == (2 * most + 12, 6 * most + 31)
    for made in (PretokenCounts(counts), loaded):
        assert learn_merges(made, 3) == reference.learn_merges(counts, 3)
    for one in (PretokenCounts({b"ab": most}), PretokenCounts.from_arrays(*PretokenCounts({b"ab": most}).arrays())):
        assert one + {} == {b"ab": most}
        with pytest.raises(ValueError, match="counts of 9,223,372,036,854,775,807 and 1 pre-tokens cannot"):
            one + {b"ab": 1}


def test_training_on_tinystories_is_the_same_by_both_engines():
    text = data_file("tinystories_valid.txt").read_bytes()[: 1_200_000 // SLOWER].decode("utf-8", "ignore")
    blocks = [Block(text.encode())]
    in_python, by_kernels = (count_with(counter, blocks, 1) for counter in counters(SpecialTokenFinder([EOT])))
    assert by_kernels == in_python == reference.count_words(text, [EOT])
    assert learn_merges_with_kernels(by_kernels, 3000) == learn_merges_in_python(in_python, 3000)


@pytest.mark.parametrize("special", [[], [EOT]])
def test_counts_do_not_depend_on_blocks_and_threads(special):
    text = (CORPUS + EOT + "a" * 5000 + "日本語" * 400) * 2
    expected = reference.count_words(text, special)
    data = text.encode()
    for size in (7, 100, 4096):
        chunks = [chunk.encode() for chunk in (text[i : i + size] for i in range(0, len(text), size))]
        blocks = list(BlockCutter(SpecialTokenFinder(special), GPT2_PATTERN).blocks(chunks))
        assert b"".join(block.data for block in blocks) == data
        assert len(blocks) >= 3
        for threads in (1, 3):
            assert count_with(counters(SpecialTokenFinder(special))[1], blocks, threads) == expected
