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


def test_a_tokenizer_with_many_special_tokens_is_shown_shortly(small):
    many = small.add_tokens([f"<|reserved_special_token_{number}|>" for number in range(256)] + ["x" * 10_000])
    assert repr(many).startswith("Tokenizer(657 tokens, 143 merges, special ['<|endoftext|>', '<|reserved_spe")
    assert len(repr(many)) < 300
    assert repr(small) == "Tokenizer(400 tokens, 143 merges, special ['<|endoftext|>'])"


def test_adding_special_tokens(small):
    before = small.sha256
    more = small.add_tokens(["<a>", EOT, " cat", "<b>"])
    assert more.special_tokens == [EOT, "<a>", " cat", "<b>"]
    assert [more.token_to_id(token) for token in ("<a>", "<b>")] == [400, 401]
    assert more.encode(f"the<a> cat{EOT}") == [*small.encode("the"), 400, small.token_to_id(" cat"), small.eot_id]
    assert more == Tokenizer(small.vocab, small.merges, [EOT, "<a>", " cat", "<b>"])
    assert pickle.loads(pickle.dumps(more)) == more
    assert (small.sha256, small.special_tokens, small.vocab_size) == (before, [EOT], 400)
    assert small.encode("<a>") == [60, 97, 62]
    assert small.add_tokens([]) == small == small.add_tokens(iter([EOT]))
    normalizing = Tokenizer(small.vocab, small.merges, pattern="a|b", ignore_merges=True, normalization="NFC")
    kept = normalizing.add_tokens(["<a>"])
    assert (kept.pattern, kept.ignore_merges, kept.normalization, kept.merges) == ("a|b", True, "NFC", small.merges)


def test_adding_special_tokens_with_ids(small):
    more = small.add_tokens({"<a>": 500, EOT: small.eot_id, "<b>": np.int64(450)})
    assert more.encode(f"<a><b>{EOT}") == [500, 450, small.eot_id]
    assert more.vocab_size == 501
    assert more.add_tokens(["<c>"]).token_to_id("<c>") == 501
    assert more.add_tokens({"<c>": 460}).encode("<c><a>") == [460, 500]
    learned = bpe.train_from_counts({b"th": 5}, 258, ["th"])
    assert learned.add_tokens(["<a>"]).encode("th<a>") == learned.add_tokens({"<a>": 258}).encode("th<a>") == [257, 258]


def test_adding_special_tokens_to_a_subclass(small):
    class Mine(Tokenizer):
        pass

    assert type(Mine.from_spec(small._spec).add_tokens(["<a>"])) is Mine


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ("<a>", TypeError, "special_tokens is the string '<a>'"),
        ({"<a>", "<b>"}, TypeError, "special_tokens is a set"),
        (["<a>", "<a>"], ValueError, "given 2 times"),
        ([b"<a>"], ValueError, "is not a non-empty string"),
        ({"<a>": 65}, ValueError, "special token '<a>' has id 65, which b'A' has"),
        ({EOT: 500}, ValueError, "has id 399, and id 500 is given; leave it out"),
        ({"A": 500, "<a>": 500}, ValueError, "has id 500, which b'A' has"),
    ],
)
def test_special_tokens_that_cannot_be_added(small, tokens, error, message):
    with pytest.raises(error, match=message):
        small.add_tokens(tokens)


def test_thousands_of_special_tokens_with_ids():
    """With a copy of the vocabulary for each of them, this takes minutes."""
    vocab = {**{byte: bytes([byte]) for byte in range(256)}, **{id_: b"%d" % id_ for id_ in range(300, 100_000)}}
    special = {f"<|{number}|>": 200_000 + number for number in range(16_000)}
    assert Tokenizer(vocab, [], special).encode("<|0|><|15999|>") == [200_000, 215_999]


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
