"""Encoding by both engines, against the reference, tiktoken and tokenizers, and with hostile input."""

import copy
import random
import unicodedata

import numpy as np
import pytest
import tiktoken
import tokenizers
from helpers import CORPUS, EOT, KNOWN_PATTERNS, SLOWER, data_file, dense, mixed, using_kernels
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer, kernels, reference
from bpe.encoding.in_python import merge_symbols
from bpe.encoding.with_kernels import BlockEncoder


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
def gpt2_in_python(gpt2):
    return copy.copy(gpt2)  # without the encoder of the other, so short texts are encoded in Python


@pytest.fixture(scope="session")
def huggingface_small(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("huggingface") / "tokenizer.json"
    small.save_huggingface(path)
    return tokenizers.Tokenizer.from_file(str(path))


# Characters of old Unicode versions, about whose classes libraries with other versions agree.
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


@given(text=st.one_of(mixed, st.text(alphabet=old_unicode)))
def test_gpt2_ids_equal_those_of_tiktoken(gpt2, gpt2_in_python, tiktoken_gpt2, text):
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Co"))
    ids = tiktoken_gpt2.encode(text, allowed_special="all")
    assert gpt2.encode(text) == ids
    assert gpt2_in_python.encode(text) == ids
    assert gpt2.decode(ids) == text


pieces = st.one_of(
    mixed.map(str.encode), st.binary(max_size=4), st.sampled_from([b"\xe2\x80", b"\xff", "\ufffd".encode()])
)


@pytest.mark.filterwarnings("ignore::bpe.InvalidUTF8Warning")
@pytest.mark.parametrize("rules", [{}, {"allowed_special": ()}, {"disallowed_special": ["\ufffd!"]}], ids=str)
@given(data=st.lists(pieces, max_size=8).map(b"".join))
def test_bytes_have_the_ids_of_the_text_that_they_decode_to(small, with_kernels, rules, data):
    text = data.decode("utf-8", "replace")
    if "\ufffd!" in text and "disallowed_special" in rules:
        for tokenizer in (small, with_kernels):
            with pytest.raises(ValueError, match="disallowed special token"):
                tokenizer.encode_to_numpy(data, **rules)
        return
    expected = small.encode(text, **rules)
    assert small.encode_to_numpy(data, **rules).tolist() == expected
    assert with_kernels.encode_to_numpy(data, **rules).tolist() == expected


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rules", [{}, {"allowed_special": ()}], ids=str)
def test_long_malformed_bytes_are_replaced_with_one_warning(gpt2, threads, rules):
    data = b"".join(b"%d \xff one \xe2\x82. <|endoftext|>" % number for number in range(9000))
    expected = gpt2.encode_to_numpy(data.decode("utf-8", "replace"), **rules)
    with pytest.warns(bpe.InvalidUTF8Warning, match=r"18,000 malformed UTF-8 sequences in text replaced") as caught:
        assert np.array_equal(gpt2.encode_to_numpy(data, threads, **rules), expected)
    assert [warning.filename for warning in caught] == [__file__]


def test_short_malformed_bytes_are_replaced_with_a_warning(small):
    with pytest.warns(bpe.InvalidUTF8Warning, match=r"1 malformed UTF-8 sequence in text replaced") as caught:
        assert small.decode(small.encode_to_numpy(b"a\xff")) == "a\ufffd"
    assert [warning.filename for warning in caught] == [__file__]


def test_only_arrays_are_made_of_bytes(small):
    for encode in (
        small.encode,
        small.encode_ordinary,
        small.encode_with_offsets,
        lambda text: small.encode_batch([text]),
    ):
        with pytest.raises(TypeError, match="text is a bytes, expected a str; decode bytes first, or use encode_to_n"):
            encode(b"text")


@pytest.mark.parametrize("name", ["tinystories_valid.txt", "owt_valid.txt", "torture_mix.txt"])
def test_gpt2_ids_of_real_text_equal_those_of_tiktoken(gpt2, tiktoken_gpt2, name):
    text = data_file(name).read_bytes()[: 1_300_000 // SLOWER].decode("utf-8", "ignore")
    expected = tiktoken_gpt2.encode_to_numpy(text, allowed_special="all")
    assert np.array_equal(gpt2.encode_to_numpy(text), expected)
    assert np.array_equal(np.array(list(gpt2.encode_iterable(text.splitlines(keepends=True)))), expected)
    assert gpt2.decode(expected) == text


@given(text=dense, seed=st.integers(0, 10**6))
def test_any_list_of_merges(text, seed):
    # Merges that no training produces: several for the same token, out of order, never applicable.
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
    assert using_kernels(tokenizer).encode(text) == expected


@given(text=st.text(alphabet="ab", min_size=40, max_size=400))
def test_long_pretokens(text):
    tokenizer = bpe.train_from_iterator(["aaaaabab abbab", "babaaab"], 280, [])
    expected = list(reference.encode(text, tokenizer.vocab, tokenizer.merges))
    assert tokenizer.encode(text) == expected
    assert using_kernels(tokenizer).encode(text) == expected


@pytest.mark.parametrize("unit", ["a", " ", "\n", "^", "'", "é", "ab", "\u3000", EOT, "a1"])
def test_a_million_of_the_same(with_kernels, unit):
    text = unit * (1_000_000 // SLOWER // len(unit))
    ids = with_kernels.encode_to_numpy(text)
    assert with_kernels.decode(ids) == text
    small_text = unit * 300
    expected = list(reference.encode(small_text, with_kernels.vocab, with_kernels.merges, [EOT]))
    assert with_kernels.encode(small_text) == expected


def test_a_long_pretoken_in_python():
    tokenizer = bpe.train_from_iterator(["aaaaaaaa"], 260, [], pattern=r"(?s:.+)")
    ids = tokenizer.encode("a" * 300_000)
    assert tokenizer.decode(ids) == "a" * 300_000
    assert merge_symbols([97] * 5, {(97, 97): (0, 256), (256, 256): (1, 257)}) == [257, 97]


@pytest.mark.parametrize("most", [64, 256, 1 << 14])
def test_the_cache_of_the_kernels_grows_and_is_emptied_when_full(small, monkeypatch, most):
    monkeypatch.setattr("bpe.encoding.with_kernels.FIRST_CACHED", 64)
    monkeypatch.setattr("bpe.encoding.with_kernels.MOST_CACHED", most)
    tokenizer = using_kernels(Tokenizer(small.vocab, small.merges, [EOT]))
    # More pre-tokens than slots; then so many bytes, and so many ids, that their arrays are used up first.
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
        using_kernels(tokenizer)


def test_the_example_of_the_handout():
    tokens = [b" ", b"a", b"c", b"e", b"h", b"t", b"th", b" c", b" a", b"the", b" at"]
    merges = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
    tokenizer = Tokenizer(dict(enumerate(tokens)), merges)
    assert tokenizer.encode("the cat ate") == [9, 7, 1, 5, 10, 3]
    assert tokenizer.eot_id is None
    for _ in range(2):
        with pytest.raises(ValueError, match=r"byte b'z' is not in the vocabulary"):
            tokenizer.encode("the z")
        using_kernels(tokenizer)


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
        using_kernels(tokenizer)


def test_many_texts_switch_to_the_kernels(small, monkeypatch):
    expected, encoded_by_kernels = small.encode(CORPUS), []
    encode = BlockEncoder.encode

    def record(self, block, space=None):
        encoded_by_kernels.append(bytes(block.data).decode())
        return encode(self, block, space)

    monkeypatch.setattr(BlockEncoder, "encode", record)
    monkeypatch.setattr(kernels, "are_ready", lambda: False)
    monkeypatch.setattr(kernels, "ENCODING_BYTES_IN_TOTAL", 2 * len(CORPUS) - 1)
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT])
    assert [tokenizer.encode(CORPUS) for _ in range(3)] == [expected] * 3
    assert encoded_by_kernels == [CORPUS] * 2


@pytest.mark.parametrize("in_python_before", [False, True])
def test_very_short_texts_do_not_call_kernels_that_are_loaded(small, monkeypatch, in_python_before):
    monkeypatch.setattr(kernels, "CALL_BYTES", 11)
    monkeypatch.setattr(kernels, "CALLS", 3)
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT])
    texts = ["Hello world", "Hello worlds", "\ud800a" + EOT[:3], "", "a"] * 2
    expected = [small.encode(text) for text in texts]
    if in_python_before:
        assert tokenizer.encode("Hello world") == expected[0]
    using_kernels(tokenizer)
    encoded_by_kernels = []
    encode = BlockEncoder.encode

    def record(self, block, space=None):
        encoded_by_kernels.append(bytes(block.data).decode())
        return encode(self, block, space)

    monkeypatch.setattr(BlockEncoder, "encode", record)
    assert [tokenizer.encode(text) for text in texts] == expected
    # Before there is a dictionary of merges, the first short texts do not pay for it.
    assert encoded_by_kernels[:2] == (["Hello worlds"] * 2 if in_python_before else ["Hello world", "Hello worlds"])
    assert encoded_by_kernels.count("Hello world") == (not in_python_before)
    assert encoded_by_kernels.count("Hello worlds") == 2


@pytest.mark.parametrize("name", KNOWN_PATTERNS)
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_for_known_patterns(name, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "SMALL_TEXT_BYTES", 1000)
    pattern = KNOWN_PATTERNS[name]
    text = (CORPUS + EOT + "12345 !\r\n\n  I'LL 'ſ HTTPServer中文A //\n/ e\u0301\n\n \t" + EOT) * 40
    tokenizer = bpe.train_from_iterator([text], 500, [EOT], pattern=pattern)
    expected = tokenizer.encode(text)
    assert expected == list(reference.encode(text, tokenizer.vocab, tokenizer.merges, [EOT], pattern))
    using_kernels(tokenizer)
    assert tokenizer.encode(text) == expected
    assert tokenizer.encode_to_numpy(text, threads).tolist() == expected
    assert list(tokenizer.encode_iterable([text[i : i + 7] for i in range(0, len(text), 7)])) == expected
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    tokenizer.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy", threads)
    assert np.load(tmp_path / "tokens.npy").tolist() == expected
    assert bpe.count_pretokens(tmp_path / "text.txt", pattern=pattern) == reference.count_words(text, [EOT], pattern)
