"""Pre-token boundaries: the kernels against `regex`."""

import numpy as np
import pytest
import regex
from helpers import SLOWER, data_file, mixed, scanned
from hypothesis import given
from hypothesis import strategies as st

from bpe import GPT2_PATTERN
from bpe.kernels.scanning.unicode_classes import LETTER, NUMBER, OTHER, SPACE, class_table
from bpe.text import CL100K_PATTERN, LLAMA3_PATTERN, compile_pattern, is_gpt2_pattern, scanner_of, split_pretokens


@given(st.one_of(mixed, st.text(alphabet=st.characters(codec="utf-8"), max_size=40)))
def test_the_scanner_splits_as_regex_does(text):
    assert scanned(text) == regex.findall(GPT2_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "pretokens"),
    [
        ("a\n\n  b", ["a", "\n\n ", " b"]),
        ("\r\n\r\nx", ["\r\n\r", "\n", "x"]),
        ("I'LL I'll", ["I", "'", "LL", " I", "'ll"]),
        ("don\u2019t", ["don", "\u2019", "t"]),
        ("x 's", ["x", " '", "s"]),
        ("'s's", ["'s", "'s"]),
        ("a \u00a0b", ["a", " ", "\u00a0", "b"]),
        ("½ x²", ["½", " x", "²"]),
        ("\x1c\x1d a", ["\x1c\x1d", " a"]),
        ("a  ", ["a", "  "]),
        ("'", ["'"]),
        ("'v", ["'", "v"]),
        (" ", [" "]),
    ],
)
def test_known_splits(text, pretokens):
    assert scanned(text) == pretokens
    assert list(split_pretokens(GPT2_PATTERN, text)) == pretokens


def test_classes_of_every_code_point_are_those_of_regex():
    table = class_table()
    assert table.shape == (0x110000,)
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i <= 0xDFFF]
    text = "".join(characters)
    for class_pattern, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE), (r"[^\s\p{L}\p{N}]", OTHER)):
        expected = {ord(character) for character in regex.findall(class_pattern, text)}
        found = set(np.flatnonzero(table == kind).tolist()) - set(range(0xD800, 0xE000))
        assert found == expected


@pytest.mark.parametrize("name", ["torture_mix.txt", "owt_valid.txt"])
def test_the_scanner_splits_real_text_as_regex_does(name):
    text = data_file(name).read_bytes()[: 1_500_000 // SLOWER].decode("utf-8", "ignore")
    assert scanned(text) == regex.findall(GPT2_PATTERN, text)


@given(mixed, st.sampled_from([r"\w+", r"[a-b]+|\s", r"(a)(b)|c", r"x*", r"(?s:.+)"]))
def test_pretokens_of_any_pattern_are_the_whole_text(text, pattern):
    assert "".join(split_pretokens(pattern, text)) == text
    assert all(split_pretokens(pattern, text))


@given(mixed)
def test_published_spellings_of_the_pattern_split_the_same(text):
    other = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    assert is_gpt2_pattern(other)
    assert regex.findall(other, text) == regex.findall(GPT2_PATTERN, text)


@pytest.mark.parametrize("pattern", ["", "(", None, 3])
def test_bad_pattern(pattern):
    with pytest.raises((ValueError, TypeError), match="regular expression"):
        compile_pattern(pattern)


QWEN_PATTERN = LLAMA3_PATTERN.replace("{1,3}", "")
GPT4_STYLE = [CL100K_PATTERN, LLAMA3_PATTERN, QWEN_PATTERN, CL100K_PATTERN.replace("{1,3}", "{1,2}")]
others = st.text(alphabet="aZ'sSlLrReEvVtTmMdD\u017f 1٣2345.!\n\r\t\u3000\xa0é中\u0301😀", max_size=40)


@pytest.mark.parametrize("pattern", GPT4_STYLE)
@given(text=st.one_of(mixed, others, st.text(alphabet=st.characters(codec="utf-8"), max_size=40)))
def test_the_scanner_of_cl100k_splits_as_regex_does(pattern, text):
    assert scanned(text, pattern) == regex.findall(pattern, text)


@pytest.mark.parametrize("pattern", GPT4_STYLE)
def test_the_scanner_of_cl100k_splits_real_text_as_regex_does(pattern):
    for name in ("torture_mix.txt", "owt_valid.txt"):
        text = data_file(name).read_bytes()[: 700_000 // SLOWER].decode("utf-8", "ignore")
        assert scanned(text, pattern) == regex.findall(pattern, text)


def test_patterns_without_a_scanner_are_left_to_regex():
    assert scanner_of(r"\w+") is None
    assert scanner_of(CL100K_PATTERN.replace("{1,3}+", "+")) is None
    assert scanner_of(CL100K_PATTERN.replace("{1,3}", "{1,4}")) is None
    assert scanner_of(CL100K_PATTERN) != scanner_of(LLAMA3_PATTERN) != scanner_of(QWEN_PATTERN)
