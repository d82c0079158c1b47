"""Reading a tokenizer.json into arrays: the same tokenizer as token by token, or no arrays at all."""

import json
import pickle

import pytest
from helpers import CORPUS, EOT, WORDS

import bpe
from bpe import Tokenizer, kernels
from bpe.formats import huggingface
from bpe.formats.packed import pack

pytestmark = pytest.mark.skipif(not kernels.are_ready(), reason="arrays are made where machine code is ready")


@pytest.fixture
def content(small, tmp_path, monkeypatch):
    """The tokenizer.json of a small tokenizer, which counts as large enough for arrays."""
    monkeypatch.setattr(huggingface, "_WORTH_PACKING", 1)
    small.save_huggingface(tmp_path / "tokenizer.json")
    return json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))


def read(content, tmp_path, monkeypatch):
    """Read a tokenizer.json with arrays and token by token."""
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content), "utf-8")
    packed = Tokenizer.from_huggingface(path)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "_WORTH_PACKING", 1 << 30)
        return packed, Tokenizer.from_huggingface(path)


def as_strings(content):
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]


def with_a_gap(content):
    content["model"]["vocab"][EOT] = content["added_tokens"][0]["id"] = 1000


def ignoring_merges(content):
    content["model"]["ignore_merges"] = True


@pytest.mark.parametrize("change", [lambda content: None, as_strings, with_a_gap, ignoring_merges])
def test_arrays_give_the_same_tokenizer(content, tmp_path, monkeypatch, change):
    change(content)
    packed, plain = read(content, tmp_path, monkeypatch)
    assert packed._spec.packed is not None
    assert plain._spec.packed is None
    text = f"{CORPUS}{EOT}{WORDS}" * 200
    assert packed.encode_to_numpy(text).tolist() == plain.encode(text)
    assert (packed.vocab_size, packed.eot_id, len(packed)) == (plain.vocab_size, plain.eot_id, len(plain))
    assert "vocab" not in packed._spec.__dict__  # encoding needs no objects
    assert Tokenizer.from_spec(packed._spec).encode(CORPUS) == plain.encode(CORPUS)
    assert packed == plain
    assert (packed.vocab, packed.merges, packed.sha256) == (plain.vocab, plain.merges, plain.sha256)
    assert packed.decode(packed.encode(text)) == text
    assert pickle.loads(pickle.dumps(packed)) == plain
    assert packed.add_tokens(["<new>"]) == plain.add_tokens(["<new>"])


def test_a_name_that_no_definition_has_is_an_attribute_error(content, tmp_path, monkeypatch):
    packed, _ = read(content, tmp_path, monkeypatch)
    with pytest.raises(AttributeError, match="'TokenizerSpec' object has no attribute 'words'"):
        _ = packed._spec.words


VOCAB = {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}
MERGES = [["a", "b"], ["ab", "c"]]


def test_a_small_vocabulary_is_packed():
    packed = pack(VOCAB, MERGES, {"<x>": 5})
    assert packed.vocab() == {0: b"a", 1: b"b", 2: b"c", 3: b"ab", 4: b"abc", 5: b"<x>"}
    assert packed.merges() == [(b"a", b"b"), (b"ab", b"c")]
    assert packed.vocab_size == 6


@pytest.mark.parametrize(
    ("vocab", "merges", "added"),
    [
        (VOCAB | {"d": 4}, MERGES, {}),
        (VOCAB | {"d": -1}, MERGES, {}),
        (VOCAB | {"d": 5.0}, MERGES, {}),
        (VOCAB | {"d": True}, MERGES, {}),
        (VOCAB | {"d": 10**6}, MERGES, {}),
        (VOCAB | {"": 5}, MERGES, {}),
        (VOCAB | {"日": 5}, MERGES, {}),
        (VOCAB | {"🙂": 5}, MERGES, {}),
        (VOCAB, [], {}),
        (VOCAB, [*MERGES, ["a", "b"]], {}),
        (VOCAB, [*MERGES, ["a", "c"]], {}),
        (VOCAB, [*MERGES, ["x", "c"]], {}),
        (VOCAB, [["a", "b"], ["ab", ""]], {}),
        (VOCAB, [["a", "b"], ["ab", "c", "d"]], {}),
        (VOCAB, [["a", "b"], ["ab c", "d"]], {}),
        (VOCAB, [["a", "b"], ["ab", 1]], {}),
        (VOCAB, [["a", "b"], "ab c"], {}),
        (VOCAB, ["a b", "ab  c"], {}),
        (VOCAB, ["a b", "abc"], {}),
        (VOCAB, ["a b", "ab c\nd e"], {}),
        (VOCAB, MERGES, {"<x>": 4}),
        (VOCAB, MERGES, {"<x>": 5, "<y>": 5}),
    ],
)
def test_anything_unusual_is_left_to_the_slow_way(vocab, merges, added):
    assert pack(vocab, merges, added) is None


def test_an_added_token_inside_the_vocabulary_is_kept_apart():
    assert pack(VOCAB | {"<x>": 5}, MERGES, {"<x>": 5}).vocab()[5] == b"<x>"
    # Its text is a token of the merges, which is then missing.
    assert pack(VOCAB, MERGES, {"ab": 3}) is None


def test_trained_tokenizers_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "_WORTH_PACKING", 1)
    for pattern in (bpe.GPT2_PATTERN, bpe.CL100K_PATTERN, bpe.O200K_PATTERN):
        trained = bpe.train_from_iterator([CORPUS, WORDS], 350, [EOT, "<a>"], pattern=pattern)
        trained.save_pretrained(tmp_path / "saved")
        again = Tokenizer.from_pretrained(tmp_path / "saved")
        assert again._spec.packed is not None
        assert again == trained
