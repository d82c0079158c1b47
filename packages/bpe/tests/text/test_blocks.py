"""Blocks of text: split one by one they give the pre-tokens of the whole text."""

import pytest
from helpers import CORPUS, EOT, KNOWN_PATTERNS, anything, mixed, split_by, stressing
from hypothesis import given
from hypothesis import strategies as st

from bpe.text import CL100K_PATTERN, GPT2_PATTERN, Block, BlockCutter, SpecialTokenFinder
from bpe.text import blocks as blocks_module

texts = st.lists(
    st.one_of(
        mixed,
        anything,
        stressing(),
        st.sampled_from(["abcdef" * 5, "日本語" * 9, "   \n\n", "12345" * 9, "!\n\r\n", "!a", "\n a"]),
    )
).map("".join)
every_pattern = pytest.mark.parametrize("pattern", KNOWN_PATTERNS.values(), ids=KNOWN_PATTERNS)
every_kind = pytest.mark.parametrize("pattern", [KNOWN_PATTERNS[n] for n in ("gpt2", "cl100k", "o200k", "deepseek")])
specials = st.sampled_from([[], [EOT], ["a b", "b a", "aa"], [" ", "  a", "<|"], ["\u2019s", "語日", "4"]])


@pytest.fixture(params=["regex", "kernel"], autouse=True)
def reach(request, monkeypatch):
    """Search for cuts near the end by `regex`, or nearly everywhere by the kernel."""
    if request.param == "kernel":
        monkeypatch.setattr(blocks_module, "_FIRST_REACH", 3)
        monkeypatch.setattr(blocks_module, "_LAST_REACH", 5)


def pretokens_of(blocks, finder, pattern=GPT2_PATTERN):
    """Split blocks into pre-tokens and special tokens."""
    pretokens = []
    for block in blocks:
        for text, special in block.texts(finder)[0]:
            pretokens += split_by(pattern, text)
            if special >= 0:
                pretokens.append(special)
    return pretokens


@every_pattern
@given(text=texts, special=specials, size=st.integers(1, 60))
def test_blocks_of_a_whole_text_have_the_pretokens_of_the_text(pattern, text, special, size):
    finder = SpecialTokenFinder(special)
    cutter = BlockCutter(finder, pattern)
    data = text.encode()
    blocks = list(cutter.blocks_of(data, size))
    assert b"".join(bytes(block.data) for block in blocks) == data
    assert pretokens_of(blocks, finder, pattern) == pretokens_of([Block(data)], finder, pattern)


@every_kind
@given(text=texts, special=specials, size=st.integers(1, 30), block=st.integers(1, 40))
def test_blocks_of_a_stream_have_the_pretokens_of_the_text(pattern, text, special, size, block):
    finder = SpecialTokenFinder(special)
    cutter = BlockCutter(finder, pattern)
    data = text.encode()
    blocks = list(cutter.blocks([data[i : i + size] for i in range(0, len(data), size)], block))
    assert b"".join(bytes(block.data) for block in blocks) == data
    assert pretokens_of(blocks, finder, pattern) == pretokens_of([Block(data)], finder, pattern)


@every_kind
@given(data=st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=5).map(str.encode))).map(b"".join))
def test_malformed_text_is_read_the_same_whole_and_in_blocks(pattern, data):
    finder = SpecialTokenFinder([])
    blocks = list(BlockCutter(finder, pattern).blocks_of(data, 3))
    assert pretokens_of(blocks, finder, pattern) == pretokens_of([Block(data)], finder, pattern)
    assert "".join(text for block in blocks for text, _ in block.texts(finder)[0]) == data.decode("utf-8", "replace")


@every_pattern
@pytest.mark.parametrize(
    "text", [CORPUS * 20, "日本語。中文！" * 500, "-- !! " * 800, "12345\n67\n" * 500, "x;\n\n" * 900]
)
def test_ordinary_text_is_cut_near_the_requested_size(pattern, text):
    blocks = BlockCutter(SpecialTokenFinder([]), pattern).blocks_of(text.encode(), 500)
    sizes = [len(block.data) for block in blocks]
    assert max(sizes) <= 500
    assert min(sizes[:-1]) > 450


@pytest.mark.parametrize("text", ["x" * 3000, "日" * 3000, " " * 3000, "'" * 3000])
def test_text_without_a_cut_is_one_block(text):
    blocks = list(BlockCutter(SpecialTokenFinder([]), GPT2_PATTERN).blocks_of(text.encode(), 100))
    assert [bytes(block.data) for block in blocks] == [text.encode()]


def test_cuts_of_punctuation_depend_on_the_pattern():
    """Line breaks belong to the punctuation before them in all patterns but GPT-2's."""
    data = b"!;\n" * 300
    assert len(list(BlockCutter(SpecialTokenFinder([]), GPT2_PATTERN).blocks_of(data, 100))) == 10
    assert len(list(BlockCutter(SpecialTokenFinder([]), CL100K_PATTERN).blocks_of(data, 100))) == 1


def test_other_patterns_are_cut_at_special_tokens_only():
    cutter = BlockCutter(SpecialTokenFinder([EOT]), r"\w+")
    data = (CORPUS + EOT + CORPUS + EOT + EOT).encode()
    blocks = [bytes(block.data) for block in cutter.blocks_of(data, 10)]
    assert b"".join(blocks) == data
    assert len(blocks) == 2 + (blocks[-1] == EOT.encode())
    assert all(block.endswith(EOT.encode()) for block in blocks)
