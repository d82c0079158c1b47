"""The tokenizer as an object: its properties, decoding, pickling, comparison, and wrong arguments."""

import pickle

import numpy as np
import pytest
from helpers import CORPUS, EOT
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer, UnknownTokenError


def test_missing_special_tokens_are_appended(small):
    tokenizer = Tokenizer(small.vocab, small.merges, ["<b>", EOT, "<a>"])
    assert tokenizer.vocab_size == small.vocab_size + 2
    assert tokenizer.token_to_id("<b>") == 400
    assert tokenizer.token_to_id(b"<a>") == 401
    assert tokenizer.token_to_id(EOT) == tokenizer.eot_id == small.eot_id


def test_a_special_token_that_a_merge_also_makes():
    tokenizer = bpe.train_from_counts({b"th": 5}, 258, ["th"])
    assert tokenizer.vocab == {**{i: bytes([i]) for i in range(256)}, 256: b"th", 257: b"th"}
    assert tokenizer.encode("th") == [257]


@given(st.binary(max_size=40))
def test_decoding_any_bytes(data):
    tokenizer = Tokenizer({i: bytes([i]) for i in range(256)}, [])
    assert tokenizer.decode_bytes(list(data)) == data
    assert tokenizer.decode(np.frombuffer(data, dtype=np.uint8)) == data.decode("utf-8", "replace")
    parts = list(tokenizer.decode_stream(data))
    assert "".join(parts) == data.decode("utf-8", "replace")
    assert all(parts)


def test_decode_stream_never_splits_a_character(small):
    stream = small.decode_stream(iter("🙂".encode()))
    assert list(stream) == ["🙂"]


def test_ids_are_integers_of_any_type(small):
    torch_like = np.array(65)  # as a tensor without dimensions, an array without dimensions has an index
    for ids in ([65, np.int64(66)], np.array([65, 66]), [torch_like, 66], (65, True + 65)):
        assert small.decode(ids) == "AB"
    for ids in ([65.0], ["A"], [[65]], [None]):
        for decode in (small.decode, small.decode_bytes, lambda ids: list(small.decode_stream(ids))):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                decode(ids)


@pytest.mark.parametrize("id_", [400, -1, 10**9])
def test_unknown_ids(small, id_):
    for error in (UnknownTokenError, ValueError, KeyError):
        with pytest.raises(error, match="is not in the vocabulary, expected 0 to 399") as caught:
            small.decode([65, id_])
        assert str(caught.value).startswith("token id")
    with pytest.raises(UnknownTokenError):
        list(small.decode_stream([id_]))


def test_pickling_and_comparing(small, with_kernels):
    again = pickle.loads(pickle.dumps(with_kernels))
    assert again == small
    assert hash(again) == hash(small)
    assert again.sha256 == small.sha256
    assert again.encode(CORPUS) == small.encode(CORPUS)
    assert again != Tokenizer(small.vocab, small.merges)
    assert again != 3
    assert len(again) == 400
    assert "400 tokens" in repr(again)


def test_properties_are_copies(small):
    small.vocab.clear()
    small.merges.clear()
    small.special_tokens.clear()
    assert len(small.vocab) == 400
    assert small.merges
    assert small.special_tokens == [EOT]
    assert small.pattern == GPT2_PATTERN


BYTES = {i: bytes([i]) for i in range(256)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.encode(b"abc"), TypeError, "text is a bytes, expected a str"),
        (lambda t: t.encode(None), TypeError, "text is a NoneType"),
        (lambda t: t.encode_batch("abc"), TypeError, "texts is one str"),
        (lambda t: t.encode_batch(["abc"], threads=0), ValueError, "threads is 0"),
        (lambda t: list(t.encode_iterable([1])), TypeError, "iterable has a int"),
        (lambda t: t.token_to_id("no such token"), UnknownTokenError, "token 'no such token' is not"),
        (lambda t: Tokenizer([b"a"], []), TypeError, "vocab is a list"),
        (lambda t: Tokenizer({b"a": 0}, []), ValueError, "vocab has the id b'a'"),
        (lambda t: Tokenizer({0: "a"}, []), ValueError, "vocab has 'a' for id 0"),
        (lambda t: Tokenizer({-1: b"a"}, []), ValueError, "vocab has the id -1"),
        (lambda t: Tokenizer(BYTES, [(b"a", b"b")]), ValueError, "needs token b'ab'"),
        (lambda t: Tokenizer(BYTES, [("a", "b")]), ValueError, r"merge \('a', 'b'\) is not a pair"),
        (lambda t: Tokenizer(BYTES, [], ["x", "x"]), ValueError, "given 2 times"),
        (lambda t: Tokenizer(BYTES, [], pattern="["), ValueError, "not a regular expression"),
    ],
)
def test_wrong_arguments(small, call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(small)
    assert "\n" not in str(caught.value)
