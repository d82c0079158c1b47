"""Patterns in a tokenizer.json: Oniguruma, which runs them there, splits text as `regex` does here."""

import unicodedata

import pytest
import regex
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe.formats.oniguruma import covers_all_text, from_oniguruma, to_oniguruma
from bpe.formats.split_patterns import read_pre_tokenizer, write_pattern
from bpe.text import GPT2_PATTERN, LLAMA3_PATTERN, split_pretokens

PATTERNS = [
    GPT2_PATTERN,
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s",
    r"(?s:.+)",
    r"\w+|[^\w\s]+|\s+",
    r"\W+|\w",
    r"[\w.-]+",
    r"^a+|b$|\A.|.\Z",
    r"(?m:^)a|b(?m:$)",
    r"\p{N}{2}+\s|x",
    r"(?:\p{N}[ab]){1,2}+|\p{N}",
    r"[\p{N}a]{,2}+b|[ab]",
    r"[1\]a]{1,2}+1",
    r"(?>\p{N}{1,2})|(?>\p{N}{1,2}a)",
    r"\d{1,3}?a|\d{2,}",
    r"(?i)ab+|'S",
    r"(?s:a.)|.",
    r"\.|\\|\{|\x41|[\[\]{}^$]+",
    r"(?<=a)b+|(?<!a)1+|a(?=1)",
]

texts = st.text(st.sampled_from("aaAbBsS1112٣² \n\r\t'.{[$^\\é\u0301\u017f\u200d\u200c日½_-"), max_size=20)


def split_by_them(pattern, text):
    splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return [pretoken for pretoken, _ in splitter.pre_tokenize_str(text)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_splits_the_same_there_and_comes_back(pattern):
    theirs = to_oniguruma(pattern)
    back = from_oniguruma(theirs)
    assert back == pattern.replace(r"\A", "^").replace(r"(?>\p{N}{1,2})", r"\p{N}{1,2}+")

    @given(text=texts)
    def same(text):
        assert split_by_them(theirs, text) == list(split_pretokens(pattern, text)) == list(split_pretokens(back, text))

    same()


@pytest.mark.parametrize(
    "pattern",
    [r"\p{N}{1,3}+", r"(?:a1|a){1,2}+1", r"^a|b$", r"\Aa|b\Z|1\z", r"(?m:a.)|.", r"(?>\p{N}{1,2})1|a", r"(?>a{1,2}b?)"],
)
def test_a_pattern_of_theirs_splits_the_same_here(pattern):
    ours = from_oniguruma(pattern)

    @given(text=texts)
    def same(text):
        assert split_by_them(pattern, text) == list(split_pretokens(ours, text))

    same()


def test_the_published_patterns_are_written_as_they_are():
    llama3 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    )
    assert to_oniguruma(llama3) == from_oniguruma(llama3) == llama3
    assert to_oniguruma(GPT2_PATTERN) == from_oniguruma(GPT2_PATTERN) == GPT2_PATTERN


@pytest.mark.parametrize(
    "name", "Alnum Alpha Blank Cntrl Digit Graph L Lu Nd P Po Print Punct Punctuation S Space Upper Latin Han".split()
)
def test_properties_that_are_kept_have_the_same_characters(name):
    pattern = rf"\p{{{name}}}"
    assert to_oniguruma(pattern) == from_oniguruma(pattern) == pattern
    alphabetic_since_unicode_16 = {*range(0x363, 0x370), *range(0x1DD3, 0x1DF5)}  # combining letters
    ranges = [*range(0x3000), *range(0xAC00, 0xAD00), *range(0x1F300, 0x1F600)]
    text = "".join(chr(code) for code in ranges if code not in alphabetic_since_unicode_16)
    known = "".join(character for character in text if unicodedata.category(character) != "Cn")
    removed = tokenizers.normalizers.Replace(tokenizers.Regex(pattern), "").normalize_str(known)
    # Characters that are newer than their Unicode have no category there.
    newer = tokenizers.normalizers.Replace(tokenizers.Regex(r"\P{Cn}"), "").normalize_str(known)
    assert set(removed) - set(newer) == set(known) - set(regex.findall(pattern, known)) - set(newer)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_read_as_it_was_written(pattern):
    assert read_pre_tokenizer("here", write_pattern(pattern)).pattern == from_oniguruma(to_oniguruma(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?m:a)",
        r"(?x: a b)",
        r"a(?i)b",
        r"(?P<name>a)",
        r"(?|a|b)",
        r"\bword",
        r"\h",
        r"\X",
        r"(a)\1",
        r"\p{Script=Han}",
        r"\p{Word}+",
        r"[^\p{word}\s]",
        r"\P{^W_ord}",
        r"\p{IsXDigit}",
        r"[\p{posix_punct}]",
        r"\pL",
        r"[\W_]",
        r"[[:punct:]]",
        r"[a[b]]",
        r"[a&&b]",
        r"a{2}?",
    ],
)
def test_patterns_that_oniguruma_understands_differently_are_refused(pattern, tmp_path):
    tokenizer = bpe.train_from_iterator(["ab"], 257, [], pattern=pattern)
    with pytest.raises(ValueError, match="Oniguruma does not know or understands differently; rewrite it") as caught:
        tokenizer.save_pretrained(tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w+",
        r"[\w]",
        r"\h",
        "(?s:a)",
        "(?x:a)",
        r"[\p{L}&&[^\p{Han}]]",
        "(a",
        "a)",
        "*a",
        "[a",
        r"\pL",
        r"\p{Word}",
        r"[\p{xdigit}]",
        r"\p{^Word}",
        r"\P{XDigit}",
    ],
)
def test_patterns_that_regex_understands_differently_are_refused(pattern):
    with pytest.raises(ValueError, match="regex does not know or understands differently; rewrite it"):
        from_oniguruma(pattern)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (r" ?[^(\s|[.,!?…。，、।۔،])]+", r" ?[^(\s|.,!?…。，、।۔،)]+"),
        (r"[a[bB[1]]S]+", r"[abB1S]+"),
        (r"[a\[[b\]]{]+", r"[a\[b\]{]+"),
    ],
)
def test_a_class_within_a_class_adds_its_characters(theirs, ours):
    assert from_oniguruma(theirs) == ours

    @given(text=texts)
    def same(text):
        assert split_by_them(theirs, text) == list(split_pretokens(ours, text))

    same()


@pytest.mark.parametrize("pattern", ["[a[^b]]", "[[:alpha:]]", "[a-[b]]", "[[a]-z]", "[a[]b]c]", "[a&&[b]]", "[][a]]"])
def test_other_classes_within_a_class_are_refused(pattern):
    with pytest.raises(ValueError, match="regex does not know or understands differently; rewrite it"):
        from_oniguruma(pattern)


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [
        (LLAMA3_PATTERN, True),
        (r"\p{L}|\P{L}", True),
        (r"\s+(?!\S)|\S+|\s+", True),
        (r".|\n", True),
        (r"\w+|[^\w\s]+|\s+", True),
        (r"[a|b]|(?:(?i:a)|[^a|b])", True),
        (r"[a|b]|(?i:a|[^a|b])", False),
        (r".", False),
        (r"\w+|\s+", False),
        (r"a*|.|\n", False),
        (r"(?=a)|.|\n", False),
        (r".(?!a)|\n", False),
        (r"\S++|\s", False),
        (r"(?>ab|a)c|.|\n", False),
        (r"(?i).|\n", False),
    ],
)
def test_patterns_that_match_every_text(pattern, covers):
    assert covers_all_text(pattern) == covers

    @given(text=texts)
    def same(text):
        assert "".join(regex.findall(f"(?:{pattern})", text)) == text

    if covers:
        same()
