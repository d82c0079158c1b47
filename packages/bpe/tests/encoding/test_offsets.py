"""Offsets of tokens: those of tokenizers, and for normalized text by their definition."""

import unicodedata

import numpy as np
import pytest
import tokenizers
from helpers import CORPUS, EOT, SLOWER, data_file, mixed, using_kernels
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from bpe.encoding.offsets import character_offsets
from bpe.text import CL100K_PATTERN

# Characters of old Unicode versions, about whose classes libraries with other versions agree.
old_unicode = st.characters(codec="utf-8").filter(lambda c: unicodedata.category(c) not in ("Cn", "Co"))
known = st.lists(st.one_of(mixed, st.text(old_unicode, max_size=9), st.sampled_from([EOT, "🙃👩🏽‍🚀", "日本"]))).map(
    "".join
)
composing = st.text(
    "ae\u00e9=\u1100\u1161\u11a8\uac00\u0995\u09be\u304b\u3099\u0301\u0327\u0338\u212b\u0958\U0001d15e \n"
)
surrogates = st.text(st.one_of(st.sampled_from("\ud83d\ude42\ud834\udd5e\ud800\udfffa🙂\ufffd "), st.characters()))


def of_tokenizers(tokenizer, path):
    """Return the same tokenizer in tokenizers, which says with `trim_offsets` what it does with white space."""
    tokenizer.save_huggingface(path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    return theirs


@pytest.fixture(scope="module", params=["gpt2", "cl100k"])
def published(request, tmp_path_factory):
    """A published vocabulary here, once for each engine, and in tokenizers."""
    path = tmp_path_factory.mktemp("huggingface") / "tokenizer.json"
    if request.param == "gpt2":
        ours = Tokenizer.from_huggingface(data_file("vocabularies/gpt2_tokenizer.json"))
    else:
        ours = Tokenizer.from_tiktoken(data_file("vocabularies/cl100k_base.tiktoken"), CL100K_PATTERN, [EOT])
    return ours, using_kernels(Tokenizer.from_spec(ours._spec)), of_tokenizers(ours, path)


@given(text=known)
def test_offsets_equal_those_of_tokenizers(published, text):
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Co"))
    *ours, theirs = published
    expected = theirs.encode(text)
    for tokenizer in ours:
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert (ids, list(map(tuple, offsets.tolist()))) == (expected.ids, expected.offsets)
        assert (offsets.dtype, offsets.shape) == (np.int64, (len(ids), 2))


@pytest.mark.parametrize("name", ["owt_valid.txt", "torture_mix.txt"])
def test_offsets_of_real_text_on_several_threads(published, name):
    text = data_file(name).read_bytes()[: 1_100_000 // SLOWER].decode("utf-8", "ignore")
    _, ours, theirs = published
    expected = theirs.encode(text)
    ids, offsets = ours.encode_with_offsets(text, threads=3)
    assert ids == expected.ids
    assert np.array_equal(offsets, expected.offsets)


def test_special_tokens_that_are_not_allowed(small):
    text = f"é{EOT}!"
    assert small.encode_with_offsets(text)[1].tolist() == [[0, 1], [1, 14], [14, 15]]
    ids, offsets = small.encode_with_offsets(text, allowed_special=())
    assert ids == small.encode_ordinary(text)
    assert "".join(text[start:end] for start, end in offsets.tolist()) == text
    with pytest.raises(ValueError, match="disallowed"):
        small.encode_with_offsets(text, allowed_special=(), disallowed_special="all")


def test_a_text_without_tokens(small):
    ids, offsets = small.encode_with_offsets("")
    assert (ids, offsets.shape, offsets.dtype) == ([], (0, 2), np.int64)


def by_definition(text, tokens, encoded, spans):
    """Return the characters of each token, given what was encoded and the characters that each of its came from."""
    origins = [span for character, span in zip(encoded, spans, strict=True) for _ in character.encode()]
    offsets, done = [], 0
    for token in tokens:
        covered = origins[done : done + len(token)]
        offsets.append((covered[0][0], covered[-1][1]))
        done += len(token)
    assert done == len(origins)
    return offsets


@given(text=surrogates)
def test_lone_surrogates_are_one_character_and_pairs_are_two(small, with_kernels, text):
    encoded, spans, index = "", [], 0
    while index < len(text):
        pair = "\ud800" <= text[index] <= "\udbff" and "\udc00" <= text[index + 1 : index + 2] <= "\udfff"
        size = 1 + pair
        character = text[index : index + size].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        encoded += character
        spans.append((index, index + size))
        index += size
    for tokenizer in (small, with_kernels):
        ids, offsets = tokenizer.encode_with_offsets(text)
        tokens = [tokenizer.vocab[id_] for id_ in ids]
        assert list(map(tuple, offsets.tolist())) == by_definition(text, tokens, encoded, spans)


@pytest.fixture(scope="module")
def composed(small):
    """A tokenizer that normalizes, with a special token that is not normalized."""
    return Tokenizer(small.vocab, small.merges, [EOT, "e\u0301!"], normalization="NFC")


@given(text=st.lists(st.one_of(composing, mixed, surrogates, st.sampled_from(["e\u0301!", EOT]))).map("".join))
def test_offsets_refer_to_the_text_before_normalization(composed, text):
    for tokenizer in (composed, using_kernels(Tokenizer.from_spec(composed._spec))):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == composed.encode(text)
        bounds = offsets.tolist()
        # The tokens cover the text in order.
        assert sorted(bounds) == bounds
        assert [0, *(end for _, end in bounds)][-1] == len(text)
        assert all(start <= end for (_, end), (start, _) in zip([[0, 0], *bounds], bounds, strict=False))
        for id_, (start, end) in zip(ids, bounds, strict=True):
            origin = text[start:end].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            normal = origin if id_ in composed._spec.special_id_set else unicodedata.normalize("NFC", origin)
            assert tokenizer.vocab[id_] in normal.encode()


@given(text=st.lists(st.one_of(known, composing)).map("".join))
def test_normalized_text_has_the_offsets_that_it_has_without_normalization(small, text):
    text = unicodedata.normalize("NFC", text)
    composed = Tokenizer(small.vocab, small.merges, [EOT], normalization="NFC")
    assert np.array_equal(composed.encode_with_offsets(text)[1], small.encode_with_offsets(text)[1])


def test_a_letter_and_its_accents_are_one_origin(composed):
    text = "xe\u0301\u0327 \u1100\u1161\u212b🙂"
    spans = [(0, 1), (1, 4), (1, 4), (4, 5), (5, 7), (7, 8), (8, 9)]
    ids, offsets = composed.encode_with_offsets(text)
    tokens = [composed.vocab[id_] for id_ in ids]
    assert list(map(tuple, offsets.tolist())) == by_definition(text, tokens, "x\u0229\u0301 \uac00\u00c5🙂", spans)


def test_tokens_that_are_not_the_bytes_of_the_text_have_no_offsets():
    with pytest.raises(ValueError, match="the tokens have 2 bytes, but the text has 3"):
        character_offsets("aé", np.array([1, 1]))


def test_large_texts_with_a_list_of_shared_ids(with_kernels):
    text = CORPUS * (1500 // SLOWER)
    ids, offsets = with_kernels.encode_with_offsets(text)
    assert ids == with_kernels.encode(text)
    assert offsets[-1].tolist() == [len(text) - 1, len(text)]
    assert type(ids[0]) is int
