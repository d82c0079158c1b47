"""Encoding: against the reference, tiktoken and tokenizers; both engines; hostile input."""

import pickle
import random
import unicodedata

import numpy as np
import pytest
import tiktoken
import tokenizers
from conftest import CORPUS, EOT, SLOWER, data_file, dense, mixed
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer, UnknownTokenError, reference
from bpe.encoding.in_python import merge_symbols
from bpe.text.blocks import Block
from bpe.text.patterns import CL100K_PATTERN, LLAMA3_PATTERN
from bpe.text.special_tokens import SpecialTokenFinder
from bpe.training.counting import count_blocks


def tiktoken_of(tokenizer):
    special = {token: tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    ranks = {token: id_ for id_, token in tokenizer.vocab.items() if id_ not in special.values()}
    return tiktoken.Encoding("test", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


@pytest.fixture(scope="session")
def tiktoken_small(small):
    return tiktoken_of(small)


@pytest.fixture(scope="session")
def tiktoken_gpt2(gpt2):
    return tiktoken_of(gpt2)


@pytest.fixture(scope="session")
def huggingface_small(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("huggingface") / "tokenizer.json"
    small.save_huggingface(path)
    return tokenizers.Tokenizer.from_file(str(path))


# Characters that old Unicode versions know too: engines of other versions agree about their classes.
old_unicode = st.characters(codec="utf-8").filter(lambda c: unicodedata.category(c) not in ("Cn", "Co"))


@given(text=mixed)
def test_both_engines_equal_the_reference(small, with_kernels, text):
    expected = list(reference.encode(text, small.vocab, small.merges, [EOT]))
    assert small.encode(text) == expected
    assert with_kernels.encode(text) == expected
    assert with_kernels.encode_to_numpy(text).tolist() == expected


@given(text=st.one_of(mixed, st.text(alphabet=old_unicode)))
def test_ids_equal_those_of_tiktoken_and_tokenizers(small, with_kernels, tiktoken_small, huggingface_small, text):
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Co"))
    ids = with_kernels.encode(text)
    assert small.encode(text) == ids
    assert tiktoken_small.encode(text, allowed_special="all") == ids
    assert huggingface_small.encode(text).ids == ids
    assert small.decode(ids) == text


@settings(max_examples=400)
@given(text=st.one_of(mixed, st.text(alphabet=old_unicode)))
def test_gpt2_ids_equal_those_of_tiktoken(gpt2, tiktoken_gpt2, text):
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Co"))
    ids = tiktoken_gpt2.encode(text, allowed_special="all")
    assert gpt2.encode(text) == ids
    assert gpt2._encoder._in_python(Block(text.encode()))[0] == ids
    assert gpt2.decode(ids) == text


@pytest.mark.parametrize("name", ["tinystories_valid.txt", "owt_valid.txt", "torture_mix.txt"])
def test_gpt2_ids_of_real_text_equal_those_of_tiktoken(gpt2, tiktoken_gpt2, name):
    text = data_file(name).read_bytes()[: 1_300_000 // SLOWER].decode("utf-8", "ignore")
    expected = tiktoken_gpt2.encode_to_numpy(text, allowed_special="all")
    assert np.array_equal(gpt2.encode_to_numpy(text), expected)
    assert np.array_equal(np.array(list(gpt2.encode_iterable(text.splitlines(keepends=True)))), expected)
    assert gpt2.decode(expected) == text


@given(text=dense, seed=st.integers(0, 10**6))
def test_any_list_of_merges(text, seed):
    # Merges that no training makes: several that give the same token, out of order, never reachable.
    generator = random.Random(seed)
    tokens = [b"a", b"b", b" ", b"'", b"s"]
    merges = []
    for _ in range(12):
        left, right = generator.choice(tokens), generator.choice(tokens)
        merges.append((left, right))
        tokens.append(left + right)
    generator.shuffle(merges)
    vocab = dict(enumerate(dict.fromkeys([bytes([i]) for i in range(256)] + tokens)))
    tokenizer = Tokenizer(vocab, merges)
    expected = list(reference.encode(text, vocab, merges))
    assert tokenizer.encode(text) == expected
    tokenizer._encoder.load_kernels()
    assert tokenizer.encode(text) == expected


@given(text=st.text(alphabet="ab", min_size=40, max_size=400))
def test_long_pieces(text):
    tokenizer = bpe.train_from_iterator(["aaaaabab abbab", "babaaab"], 280, [])
    expected = list(reference.encode(text, tokenizer.vocab, tokenizer.merges))
    assert tokenizer.encode(text) == expected
    tokenizer._encoder.load_kernels()
    assert tokenizer.encode(text) == expected


@pytest.mark.parametrize("unit", ["a", " ", "\n", "^", "'", "é", "ab", "\u3000", EOT, "a1"])
def test_a_million_of_the_same(with_kernels, unit):
    text = unit * (1_000_000 // SLOWER // len(unit))
    ids = with_kernels.encode_to_numpy(text)
    assert with_kernels.decode(ids) == text
    small_text = unit * 300
    expected = list(reference.encode(small_text, with_kernels.vocab, with_kernels.merges, [EOT]))
    assert with_kernels.encode(small_text) == expected


def test_a_long_piece_in_python():
    tokenizer = bpe.train_from_iterator(["aaaaaaaa"], 260, [], pattern=r"(?s:.+)")
    ids = tokenizer.encode("a" * 300_000)
    assert tokenizer.decode(ids) == "a" * 300_000
    assert merge_symbols([97] * 5, {(97, 97): (0, 256), (256, 256): (1, 257)}) == [257, 97]


@pytest.mark.parametrize("most", [64, 256, 1 << 14])
def test_the_cache_of_the_kernels_grows_and_starts_afresh_when_full(small, monkeypatch, most):
    monkeypatch.setattr("bpe.encoding.with_kernels.FIRST_CACHED", 64)
    monkeypatch.setattr("bpe.encoding.with_kernels.MOST_CACHED", most)
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT])
    tokenizer._encoder.load_kernels()
    # More pieces than slots; so many bytes, then so many ids, that the room for these is used up first.
    text = CORPUS + " ".join(str(i) * 5 for i in range(500)) + CORPUS
    text += " ".join("é" * 20 + chr(0x4E00 + i) * 10 for i in range(30))
    for _ in range(3):
        assert tokenizer.encode(text) == small.encode(text)


def test_overlapping_special_tokens(small):
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT, EOT + EOT, "<|", " a"])
    for _ in range(2):
        ids = tokenizer.encode(f"x{EOT}{EOT}{EOT} ab<|endof")
        assert [tokenizer.decode([i]) for i in ids][:4] == ["x", EOT + EOT, EOT, " a"]
        assert tokenizer.decode(ids) == f"x{EOT}{EOT}{EOT} ab<|endof"
        tokenizer._encoder.load_kernels()


def test_missing_special_tokens_are_appended(small):
    tokenizer = Tokenizer(small.vocab, small.merges, ["<b>", EOT, "<a>"])
    assert tokenizer.vocab_size == small.vocab_size + 2
    assert tokenizer.token_to_id("<b>") == 400
    assert tokenizer.token_to_id(b"<a>") == 401
    assert tokenizer.token_to_id(EOT) == tokenizer.eot_id == small.eot_id


def test_the_example_of_the_handout():
    tokens = [b" ", b"a", b"c", b"e", b"h", b"t", b"th", b" c", b" a", b"the", b" at"]
    merges = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
    tokenizer = Tokenizer(dict(enumerate(tokens)), merges)
    assert tokenizer.encode("the cat ate") == [9, 7, 1, 5, 10, 3]
    assert tokenizer.eot_id is None
    for _ in range(2):
        with pytest.raises(ValueError, match=r"byte b'z' is not in the vocabulary"):
            tokenizer.encode("the z")
        tokenizer._encoder.load_kernels()


def test_a_special_token_that_a_merge_also_makes():
    tokenizer = bpe.train_from_counts({b"th": 5}, 258, ["th"])
    assert tokenizer.vocab == {**{i: bytes([i]) for i in range(256)}, 256: b"th", 257: b"th"}
    assert tokenizer.encode("th") == [257]


def test_lone_surrogates_become_replacement_characters(small, with_kernels):
    for tokenizer in (small, with_kernels):
        assert tokenizer.encode("a\ud800b\udc00") == tokenizer.encode("a\ufffdb\ufffd")
        assert tokenizer.encode("\ud83d\ude42") == tokenizer.encode("🙂")
    assert list(small.encode_iterable(["\ud83d", "\ude42", "\ud83d"])) == small.encode("🙂\ufffd")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches(small, with_kernels, threads):
    texts = [CORPUS[i::7] for i in range(7)] + [""]
    for tokenizer in (small, with_kernels):
        arrays = tokenizer.encode_batch(texts, threads=threads)
        assert [array.tolist() for array in arrays] == [small.encode(text) for text in texts]
        assert {array.dtype for array in arrays} == {np.dtype("uint16")}


def test_ids_over_16_bits_take_32():
    tokenizer = Tokenizer({**{i: bytes([i]) for i in range(256)}, 65535: b"ab"}, [(b"a", b"b")])
    assert tokenizer.encode_to_numpy("ab").dtype == np.uint16
    tokenizer = Tokenizer({**{i: bytes([i]) for i in range(256)}, 65536: b"ab"}, [(b"a", b"b")])
    assert tokenizer.vocab_size == 65537
    for _ in range(2):
        ids = tokenizer.encode_to_numpy("xab")
        assert (ids.dtype, ids.tolist()) == (np.uint32, [120, 65536])
        tokenizer._encoder.load_kernels()


def test_large_texts_switch_to_the_kernels(small, monkeypatch):
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT])
    monkeypatch.setattr("bpe.encoding.encoder.KERNEL_BYTES_IN_ALL", 2 * len(CORPUS))
    assert [tokenizer.encode(CORPUS) for _ in range(3)] == [small.encode(CORPUS)] * 3
    assert tokenizer._encoder._kernels is not None


@given(st.binary(max_size=40))
def test_decoding_any_bytes(data):
    tokenizer = Tokenizer({i: bytes([i]) for i in range(256)}, [])
    assert tokenizer.decode_bytes(list(data)) == data
    assert tokenizer.decode(np.frombuffer(data, dtype=np.uint8)) == data.decode("utf-8", "replace")
    parts = list(tokenizer.decode_stream(data))
    assert "".join(parts) == data.decode("utf-8", "replace")
    assert all(parts)


def test_decode_stream_holds_back_a_part_of_a_character(small):
    stream = small.decode_stream(iter("🙂".encode()))
    assert list(stream) == ["🙂"]


@pytest.mark.parametrize("id_", [400, -1, 10**9])
def test_unknown_ids(small, id_):
    for error in (UnknownTokenError, ValueError, KeyError):
        with pytest.raises(error, match="is not in the vocabulary, expected 0 to 399") as caught:
            small.decode([65, id_])
        assert str(caught.value).startswith("token id")
    with pytest.raises(UnknownTokenError):
        list(small.decode_stream([id_]))


def test_pickling_and_comparing(small, with_kernels):
    copy = pickle.loads(pickle.dumps(with_kernels))
    assert copy == small
    assert hash(copy) == hash(small)
    assert copy.sha256 == small.sha256
    assert copy.encode(CORPUS) == small.encode(CORPUS)
    assert copy != Tokenizer(small.vocab, small.merges)
    assert copy != 3
    assert len(copy) == 400
    assert "400 tokens" in repr(copy)


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


@pytest.mark.parametrize("pattern", [CL100K_PATTERN, LLAMA3_PATTERN])
@pytest.mark.parametrize("threads", [1, 2])
def test_patterns_like_that_of_cl100k_run_in_kernels_too(pattern, threads, tmp_path):
    text = (CORPUS + EOT + "12345 !\r\n\n  I'LL 'ſ\n\n \t" + EOT) * 40
    tokenizer = bpe.train_from_iterator([text], 500, [EOT], pattern=pattern)
    expected = tokenizer.encode(text)
    assert tokenizer._encoder._kernels is None
    tokenizer._encoder.load_kernels()
    assert tokenizer.encode(text) == expected
    assert tokenizer.encode_to_numpy(text, threads).tolist() == expected
    assert list(tokenizer.encode_iterable([text[i : i + 7] for i in range(0, len(text), 7)])) == expected
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    tokenizer.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy", threads)
    assert np.load(tmp_path / "tokens.npy").tolist() == expected
    counts = bpe.count_pretokens(tmp_path / "text.txt", pattern=pattern)
    blocks = [Block(text.encode())]
    assert count_blocks(blocks, pattern, threads, "kernels", SpecialTokenFinder([EOT])) == counts
