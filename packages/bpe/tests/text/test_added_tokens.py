"""Added tokens of all kinds, compared with the `tokenizers` library, for whole texts and for texts in blocks."""

import copy
import json
import unicodedata

import numpy as np
import pytest
import tokenizers
from helpers import SLOWER, using_kernels
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import AddedToken, Tokenizer
from bpe.formats.split_patterns import write_pattern
from bpe.text import byte_characters
from bpe.text.added_tokens import _overlap

ALPHABET = "aab  <>é\u0301\n\u00a01_"
BYTES = {byte: bytes([byte]) for byte in range(256)}
PATTERN = r"a+|[^a]"
MASK = AddedToken("<mask>", special=True, lstrip=True)


@st.composite
def added(draw):
    """An added token that `tokenizers` can read and find without an error."""
    content = draw(st.text(ALPHABET, min_size=1, max_size=3).filter(lambda text: text != "é"))
    lstrip, *flags = draw(st.tuples(*[st.booleans()] * 5))
    return AddedToken(
        content, lstrip=lstrip and not content.isspace(), **dict(zip(("rstrip", *FLAGS), flags, strict=True))
    )


FLAGS = ("single_word", "normalized", "special")
token_lists = st.lists(added(), max_size=5, unique_by=lambda token: unicodedata.normalize("NFC", token.content))


def opened(folder, tokens, normalizer, pre_tokenizer):
    """Open a tokenizer.json with these added tokens here and in the other library."""
    vocab = {character: id_ for id_, character in enumerate(byte_characters())}
    ids = {}
    for token in tokens:
        ids[token.content] = vocab.get(token.content, len(vocab) + len(ids.keys() - vocab.keys()))
    content = {
        "added_tokens": [{"id": ids[token.content], **token._asdict()} for token in tokens],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), "utf-8")
    ours = Tokenizer.from_huggingface(path)
    ours.save_pretrained(folder / "again")
    assert Tokenizer.from_pretrained(folder / "again") == ours
    again = tokenizers.Tokenizer.from_file(str(folder / "again" / "tokenizer.json"))
    return ours, tokenizers.Tokenizer.from_file(str(path)), again


def in_blocks(tokenizer, text, size):
    """Encode a text in small blocks, whole and as a stream."""
    encoder, data = tokenizer._encoder, text.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    for blocks in (encoder.cutter.blocks_of(data, size), encoder.cutter.blocks(chunks, size)):
        yield [int(id_) for block in blocks for id_ in encoder.block(block).ids]


@given(
    tokens=token_lists,
    normalizer=st.sampled_from([None, {"type": "NFC"}]),
    pattern=st.sampled_from([bpe.GPT2_PATTERN, PATTERN]),
    prefix=st.booleans(),
    data=st.data(),
)
def test_added_tokens_are_found_as_in_the_other_library(tokens, normalizer, pattern, prefix, data, tmp_path_factory):
    pre_tokenizer = write_pattern(pattern)
    if pattern == bpe.GPT2_PATTERN:
        pre_tokenizer["add_prefix_space"] = prefix
    ours, theirs, again = opened(tmp_path_factory.mktemp("added"), tokens, normalizer, pre_tokenizer)
    with_kernels = using_kernels(copy.copy(ours)) if pattern == bpe.GPT2_PATTERN else ours
    fragments = st.sampled_from([token.content for token in tokens] + [*ALPHABET])
    for text in data.draw(st.lists(st.lists(fragments, max_size=12).map("".join), max_size=6)):
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert again.encode(text).ids == expected
        assert ours.encode(text) == with_kernels.encode(text) == expected
        assert with_kernels.encode_batch(["a", text, text])[1].tolist() == expected
        assert list(ours.encode_iterable(text)) == list(with_kernels.encode_iterable(text)) == expected
        for ids in (*in_blocks(ours, text, 2), *in_blocks(with_kernels, text, 5)):
            assert ids == expected


def test_white_space_and_words_around_tokens():
    tokens = [MASK, AddedToken("<end>", rstrip=True), AddedToken("ab", single_word=True)]
    tokenizer = Tokenizer(BYTES, [], added_tokens=tokens)
    mask, end, word = (tokenizer.token_to_id(token.content) for token in tokens)
    assert (mask, end, word) == (256, 257, 258)
    assert tokenizer.encode("x \u3000<mask> y") == [120, mask, 32, 121]
    assert tokenizer.encode("x <end> \n y") == [120, 32, end, 121]
    assert tokenizer.encode("ab-ab ab_ xab") == [word, 45, word, 32, *b"ab_ xab"]
    assert tokenizer.encode("<end>  <mask>") == [end, mask]


def test_a_space_is_put_before_each_text():
    tokenizer = Tokenizer(BYTES, [], ["<a>"], add_prefix_space=True)
    assert tokenizer.add_prefix_space
    assert tokenizer.encode("x y<a>z<a> z<a>\n") == [*b" x y", 256, *b" z", 256, *b" z", 256, *b" \n"]
    assert tokenizer.encode("") == []
    assert tokenizer.encode("<a>") == [256]


def test_long_texts_and_files_get_the_space_once(tmp_path):
    lines = 60_000 // SLOWER
    text = "word and<a>word 'tis  <m> a word\n" * lines
    (tmp_path / "text.txt").write_text(text, "utf-8")
    tokens = [AddedToken("<m>", lstrip=True, rstrip=True), AddedToken("word", single_word=True)]
    tokenizer = using_kernels(Tokenizer(BYTES, [], ["<a>"], added_tokens=tokens, add_prefix_space=True))
    _, mask, word = (tokenizer.token_to_id(token) for token in ("<a>", "<m>", "word"))
    line = [word, *b" and", 256, word, *b" 'tis", mask, *b" a ", word]
    expected = [*line, *([*b" \n", *line] * (lines - 1)), *b" \n"]
    assert tokenizer.encode(text) == expected
    assert list(tokenizer.encode_iterable(iter([text[:99], text[99:50_001], text[50_001:]]))) == expected
    tokenizer.encode_file(tmp_path / "text.txt", tmp_path / "ids.npy", threads=2)
    assert np.load(tmp_path / "ids.npy").tolist() == expected


def test_tokens_that_are_not_special_are_no_special_tokens():
    tokenizer = Tokenizer(BYTES, [], ["<a>"], added_tokens=[AddedToken("<b>"), AddedToken("<c>", special=True), MASK])
    assert tokenizer.special_tokens == ["<a>", "<c>", "<mask>"]
    assert tokenizer.added_tokens == [MASK, AddedToken("<b>")]
    assert tokenizer.encode("<b><c><a><mask>") == [259, 257, 256, 258]
    assert tokenizer.decode([259, 257, 256, 258]) == "<b><c><a><mask>"


def test_what_a_definition_means_decides_equality():
    plain = Tokenizer(BYTES, [], ["<a>"])
    assert Tokenizer(BYTES, [], added_tokens=[AddedToken("<a>", special=True)]) == plain
    assert Tokenizer(BYTES, [], added_tokens=[AddedToken("<a>", special=True, normalized=True)]) == plain
    others = [
        Tokenizer(BYTES, [], added_tokens=[AddedToken("<a>")]),
        Tokenizer(BYTES, [], added_tokens=[AddedToken("<a>", special=True, lstrip=True)]),
        Tokenizer(BYTES, [], ["<a>"], add_prefix_space=True),
        Tokenizer(BYTES, [], ["<a>"], byte_pattern="a"),
        Tokenizer(BYTES, [], ["<a>"], byte_pattern=("a", "b")),
        Tokenizer(BYTES, [], ["<a>"], pattern=("a", "b")),
        Tokenizer(BYTES, [], ["<a>"], pattern="a"),
    ]
    assert len({plain, *others}) == len({plain.sha256, *(other.sha256 for other in others)}) == 8
    assert (
        plain.sha256 == "d3cc4a3954e24f8728a1e20fe1646d0968eecd2c40dfc5790659d1c61f858b1c"
    )  # as before there were others


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (["<b>"], TypeError, r"added_tokens has '<b>', expected bpe.AddedToken; write bpe.AddedToken\('<b>'\)"),
        ([AddedToken("")], ValueError, "special token '' is not a non-empty string"),
        ([AddedToken("<b>"), AddedToken("<b>", lstrip=True)], ValueError, "'<b>' is given 2 times"),
        ([AddedToken("<a>")], ValueError, "is also a special token; make it special"),
    ],
)
def test_malformed_added_tokens_are_refused(tokens, error, message):
    with pytest.raises(error, match=message):
        Tokenizer(BYTES, [], ["<a>"], added_tokens=tokens)


tokens = st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3)


@given(some=tokens, others=tokens)
def test_tokens_overlap_if_both_fit_into_one_text(some, others):
    """The definition: one of two tokens, shifted against the other, agrees with it wherever both have a character."""
    expected = any(
        all(left[place + shift] == right[place] for place in range(len(right)) if 0 <= place + shift < len(left))
        for left in some
        for right in others
        for shift in range(1 - len(right), len(left))
    )
    assert _overlap(some, others) == expected


def test_thousands_of_normalized_tokens():
    """With a check whose time is the square of their number, this takes half a minute."""
    contents = [f"<|audio_{number}|>" for number in range(20_000 // SLOWER)]
    added = [AddedToken(content, normalized=True) for content in contents]
    tokenizer = Tokenizer(BYTES, [], ["<a>"], added_tokens=added)
    assert tokenizer.added_tokens == [token._replace(normalized=False) for token in added]
