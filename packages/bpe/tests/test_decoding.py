"""Decoding: special tokens and unknown ids that are left out, batches, and errors of UTF-8."""

import array

import numpy as np
import pytest
import tokenizers
from helpers import EOT, data_file
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer, UnknownTokenError
from bpe.text import CL100K_PATTERN

GAPS = Tokenizer({97: b"a", 255: b"\xff", 300: "é".encode(), 301: b"th", 400: b"th"}, [], {EOT: 500, "th": 400})


class Tensor:
    """The methods of a tensor that count here; `torch` is not installed for these tests."""

    def __init__(self, values):
        self.values = values

    def tolist(self):
        return self.values

    def __iter__(self):
        if not isinstance(self.values, list):
            raise TypeError("iteration over a 0-d tensor")
        return map(Tensor, self.values)

    def __index__(self):
        if isinstance(self.values, list):
            if len(self.values) != 1:
                raise TypeError("only integer tensors of a single element can be converted to an index")
            return Tensor(self.values[0]).__index__()
        return self.values


UNKNOWN = [0, 98, 299, 499, 501, 10**6, -1, -100]
IDS = st.lists(st.sampled_from([*GAPS.vocab, *UNKNOWN]))


@pytest.fixture(scope="module")
def theirs(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("huggingface") / "tokenizer.json"
    small.add_tokens(["<|a|>", "<b>"]).save_huggingface(path)
    return tokenizers.Tokenizer.from_file(str(path))


@given(batch=st.lists(st.lists(st.one_of(st.integers(0, 401), st.integers(399, 401)))), skip=st.booleans())
def test_texts_equal_those_of_tokenizers(small, theirs, batch, skip):
    ours = small.add_tokens(["<|a|>", "<b>"])
    batch = [ours.encode(ours.decode(ids, errors="ignore")) for ids in batch]
    expected = theirs.decode_batch(batch, skip_special_tokens=skip)
    assert ours.decode_batch(batch, skip_special_tokens=skip) == expected
    assert [ours.decode(ids, skip_special_tokens=skip) for ids in batch] == expected
    assert ["".join(ours.decode_stream(ids, skip_special_tokens=skip)) for ids in batch] == expected


@given(ids=IDS, skip=st.booleans(), errors=st.sampled_from(["replace", "ignore", "backslashreplace", "strict"]))
def test_ids_without_a_token(ids, skip, errors):
    for unknown, substitute in (("replace", "\ufffd".encode()), ("skip", b"")):
        shown = [id_ for id_ in ids if not (skip and id_ in (400, 500))]
        expected = b"".join(GAPS.vocab.get(id_, substitute) for id_ in shown)
        options = {"skip_special_tokens": skip, "unknown": unknown}
        assert GAPS.decode_bytes(ids, **options) == expected
        options["errors"] = errors
        for decode in (
            lambda ids, **options: GAPS.decode(ids, **options),
            lambda ids, **options: GAPS.decode_batch([ids, []], **options)[0],
            lambda ids, **options: "".join(GAPS.decode_stream(iter(ids), **options)),
        ):
            try:
                text = expected.decode("utf-8", errors)
            except UnicodeDecodeError:
                with pytest.raises(UnicodeDecodeError):
                    decode(ids, **options)
            else:
                assert decode(ids, **options) == text


@pytest.mark.parametrize("id_", UNKNOWN)
def test_errors_for_unknown_ids_tell_gaps_from_ids_beyond_the_vocabulary(id_):
    message = "which has no token for some ids below 501" if 0 <= id_ < 501 else "expected 0 to 500"
    for decode in (
        GAPS.decode,
        GAPS.decode_bytes,
        lambda ids: GAPS.decode_batch([[97], ids]),
        lambda ids: list(GAPS.decode_stream(ids)),
        lambda ids: GAPS.decode(ids, skip_special_tokens=True),
        lambda ids: GAPS.id_to_token(ids[1]),
    ):
        with pytest.raises(UnknownTokenError, match=f"^token id {id_} is not in the vocabulary, {message}; check"):
            decode([500, id_])


def test_an_id_in_the_gap_of_cl100k():
    tokenizer = Tokenizer.from_tiktoken(
        data_file("vocabularies/cl100k_base.tiktoken"), CL100K_PATTERN, {EOT: 100257, "<|endofprompt|>": 100276}
    )
    with pytest.raises(
        UnknownTokenError, match="token id 100256 is not in the vocabulary, which has no token for some"
    ):
        tokenizer.decode([100256])
    assert (
        tokenizer.decode([9906, 100256, 100257, 1917, 100277], skip_special_tokens=True, unknown="skip")
        == "Hello world"
    )


@pytest.mark.parametrize(
    "batch",
    [
        [[65, 66], [67], []],
        ([65, 66], (67,), iter([])),
        [np.array([65, 66]), Tensor([67]), Tensor([])],
        (list(ids) for ids in ([65, 66], [67], [])),
        [[Tensor(65), np.int64(66)], array.array("i", [67]), b""],
    ],
)
def test_batches_of_any_kind(small, batch):
    assert small.decode_batch(batch) == ["AB", "C", ""]


def test_batches_of_two_dimensions(small):
    for batch in (np.array([[65, 66], [67, 399]]), Tensor([[65, 66], [67, 399]])):
        assert small.decode_batch(batch) == ["AB", f"C{EOT}"]
        assert small.decode_batch(batch, skip_special_tokens=True) == ["AB", "C"]
    assert small.decode_batch([]) == small.decode_batch(np.empty((0, 3), dtype=np.int64)) == []


@pytest.mark.parametrize("ids", [[[65, 66]], [[65], [66]], [65, [66]], np.array([[65, 66]]), Tensor([[65, 66]])])
def test_nested_lists_are_refused_by_decode(small, ids):
    for decode in (small.decode, small.decode_bytes, lambda ids: list(small.decode_stream(ids))):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer; decode_batch decodes several"):
            decode(ids)


@pytest.mark.parametrize("batch", [[65, 66], np.array([65, 66]), Tensor([65]), [Tensor(65)], [None]])
def test_flat_lists_are_refused_by_decode_batch(small, batch):
    with pytest.raises(TypeError, match="expected lists of ids; decode decodes a single list"):
        small.decode_batch(batch)


@pytest.mark.parametrize("ids", [65, "AB", np.int64(65), Tensor(65), None])
def test_what_holds_no_ids_is_refused(small, ids):
    for decode in (small.decode, small.decode_bytes):
        with pytest.raises(TypeError, match="expected a list of integers"):
            decode(ids)


def test_errors_of_the_caller_pass_through(small):
    def ids():
        yield 65
        raise TypeError("mine")

    for decode in (small.decode, lambda ids: list(small.decode_stream(ids))):
        with pytest.raises(TypeError, match=r"^mine$"):
            decode(ids())
    with pytest.raises(ValueError, match="unknown is 'ignore', expected 'error', 'replace' or 'skip'"):
        small.decode([65], unknown="ignore")


def test_id_to_token(small):
    assert [small.id_to_token(id_) for id_ in (65, np.int64(399), Tensor(255))] == [b"A", EOT.encode(), b"\xff"]
    assert all(small.token_to_id(small.id_to_token(id_)) == id_ for id_ in range(400))
    for id_ in (65.0, "A", None, [65]):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            small.id_to_token(id_)
