"""Pre-token boundaries: the kernels against `regex` and tokenizers."""

import numpy as np
import pytest
import regex
from helpers import (
    FRAGMENTS,
    KNOWN_PATTERNS,
    SLOWER,
    data_file,
    mixed,
    scanned,
    scanned_by_character,
    split_by,
    stressing,
)
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from bpe import CL100K_PATTERN, GPT2_PATTERN, LLAMA3_PATTERN, O200K_PATTERN
from bpe.formats.oniguruma import from_oniguruma, to_oniguruma
from bpe.kernels.scanning.unicode_classes import (
    CJK,
    KIND,
    LETTER,
    LOWER,
    MARK,
    NUMBER,
    OTHER,
    SPACE,
    SYMBOL,
    UPPER,
    class_table,
)
from bpe.text import compile_pattern, is_gpt2_pattern, scanner_of, split_pretokens
from bpe.text.patterns import DEEPSEEK_PATTERNS, DIGITS_THEN_GPT2, QWEN35_PATTERN, TEKKEN_PATTERN

every_pattern = pytest.mark.parametrize("pattern", KNOWN_PATTERNS.values(), ids=KNOWN_PATTERNS)


@every_pattern
@given(text=st.one_of(stressing(), mixed, st.text(alphabet=st.characters(codec="utf-8"), max_size=40)))
def test_kernels_split_as_regex_does(pattern, text):
    expected = split_by(pattern, text)
    assert scanned(text, pattern) == expected
    assert scanned_by_character(text, pattern) == expected


@every_pattern
def test_kernels_split_at_the_end_of_a_block_as_in_it(pattern):
    """Every fragment, alone and between others, at each position around the 64 bytes of a block."""
    for filling in ("x", " ", "!", "7", "中", "\n", "a B"):
        text = ""
        for index, fragment in enumerate(FRAGMENTS):
            start = filling * (66 // len(filling.encode()))
            text += start[index % 5 :] + fragment + FRAGMENTS[index * 7 % len(FRAGMENTS)] + start[: 60 + index % 4]
        assert scanned(text, pattern) == split_by(pattern, text)


@every_pattern
@pytest.mark.parametrize("name", ["torture_mix.txt", "owt_valid.txt"])
def test_kernels_split_real_text_as_regex_does(pattern, name):
    text = data_file(name).read_bytes()[: 700_000 // SLOWER].decode("utf-8", "ignore")
    assert scanned(text, pattern) == split_by(pattern, text)


@every_pattern
@given(text=stressing())
def test_kernels_split_as_tokenizers_does(pattern, text):
    if "\U00011f50" in text:  # a digit since Unicode 15, which tokenizers does not know
        return
    splits = [pattern] if isinstance(pattern, str) else pattern
    steps = [pre_tokenizers.Split(Regex(to_oniguruma(split)), "isolated") for split in splits]
    pieces = [piece for piece, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)]
    assert scanned(text, pattern) == pieces


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


@pytest.mark.parametrize(
    ("pattern", "text", "pretokens"),
    [
        (
            CL100K_PATTERN,
            "I'LL (don't)!\r\n\n  12345",
            ["I", "'LL", " (", "don", "'t", ")!\r\n\n", " ", " ", "123", "45"],
        ),
        (CL100K_PATTERN, "a\n \n  ", ["a", "\n \n  "]),
        (LLAMA3_PATTERN, "a\n \n  ", ["a", "\n \n", "  "]),
        (LLAMA3_PATTERN, "a \n \n   b", ["a", " \n \n", "  ", " b"]),
        (QWEN35_PATTERN, "कि \u0301", ["कि", " \u0301"]),
        (O200K_PATTERN, "camelCase HTTPServer XMLs", ["camel", "Case", " HTTPServer", " XMLs"]),
        (O200K_PATTERN, "it's it'sA IT'S's", ["it's", " it's", "A", " IT'S", "'s"]),
        (O200K_PATTERN, "中A A中B 中Ab", ["中", "A", " A中", "B", " 中Ab"]),
        (O200K_PATTERN, "x;\n//y !\u0301a", ["x", ";\n//", "y", " !\u0301", "a"]),
        (TEKKEN_PATTERN, "it's 12", ["it", "'s", " ", "1", "2"]),
        (DIGITS_THEN_GPT2, "a 12  3", ["a", " ", "1", "2", "  ", "3"]),
        (DEEPSEEK_PATTERNS, "a.b .é  1", ["a", ".b", " .", "é", "  ", "1"]),
        (DEEPSEEK_PATTERNS, "カ・ナ 日本!\u200b\u200bx", ["カ", "・", "ナ", " ", "日本", "!", "\u200b", "\u200bx"]),
    ],
)
def test_known_splits_of_other_patterns(pattern, text, pretokens):
    assert scanned(text, pattern) == scanned_by_character(text, pattern) == split_by(pattern, text) == pretokens


def test_classes_of_every_code_point_are_those_of_regex():
    table = class_table()
    assert table.shape == (0x110000,)
    text = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF)
    kinds = ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE), (r"[^\s\p{L}\p{N}]", OTHER))
    bits = (
        (r"[\p{Lu}\p{Lt}]", UPPER),
        (r"\p{Ll}", LOWER),
        (r"\p{M}", MARK),
        (r"[\p{P}\p{S}]", SYMBOL),
        (DEEPSEEK_PATTERNS[1].rstrip("+"), CJK),
    )
    for pattern, chosen in [(p, table & KIND == kind) for p, kind in kinds] + [(p, table & bit > 0) for p, bit in bits]:
        expected = set(map(ord, regex.findall(pattern, text)))
        assert set(np.flatnonzero(chosen).tolist()) - set(range(0xD800, 0xE000)) == expected


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


def test_published_spellings_have_a_scanner():
    tiktoken_07 = (
        LLAMA3_PATTERN.replace(r"\s*[\r\n]+", r"\s*[\r\n]").replace("]?", "]?+").replace(r"\p{N}]+", r"\p{N}]++")
    )
    nanochat = tiktoken_07.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)").replace("{1,3}", "{1,2}")
    assert scanner_of(nanochat) == scanner_of(LLAMA3_PATTERN)._replace(most_digits=2)
    # As in the tokenizer.json of DeepSeek V3.
    deepseek = tuple(from_oniguruma(split.replace(r"\r\n", "\r\n")) for split in DEEPSEEK_PATTERNS)
    assert scanner_of(deepseek) == scanner_of(DEEPSEEK_PATTERNS) is not None
    assert scanner_of((O200K_PATTERN,)) == scanner_of(O200K_PATTERN)
    assert len({scanner_of(pattern) for pattern in KNOWN_PATTERNS.values()}) == len(KNOWN_PATTERNS)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w+",
        CL100K_PATTERN.replace("{1,3}+", "+"),
        CL100K_PATTERN.replace("{1,3}", "{1,4}"),
        O200K_PATTERN.replace("/", ""),
        (r"\p{N}", CL100K_PATTERN),
        DEEPSEEK_PATTERNS[:2],
        (),
    ],
)
def test_other_patterns_are_left_to_regex(pattern):
    assert scanner_of(pattern) is None
