"""Files of other libraries: what is written is read back, and they read it to the same effect."""

import json

import pytest
import tokenizers
from conftest import CORPUS, EOT, data_file
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer
from bpe.formats.gpt2 import byte_characters, from_characters, to_characters


@given(st.binary(max_size=30))
def test_bytes_are_written_as_characters_and_back(data):
    assert from_characters(to_characters(data)) == data


def test_the_characters_of_bytes_are_those_of_the_tokenizers_library():
    assert set(byte_characters()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert to_characters(b" a\n\xc3\xa9") == "ĠaĊÃ©"


def test_a_directory_has_all_formats(small, tmp_path):
    small.save_pretrained(tmp_path / "tokenizer")
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == [
        "merges.txt",
        "tokenizer.json",
        "tokenizer.tiktoken",
        "tokenizer_config.json",
        "vocab.json",
    ]
    folder = tmp_path / "tokenizer"
    assert Tokenizer.from_pretrained(folder) == small
    assert Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", [EOT]) == small
    assert Tokenizer.from_tiktoken(folder / "tokenizer.tiktoken", GPT2_PATTERN, [EOT]) == small
    assert Tokenizer.from_tiktoken(folder / "tokenizer.tiktoken", special_tokens={EOT: small.eot_id}) == small
    assert Tokenizer.from_huggingface(folder / "tokenizer.json") == small
    settings_of_transformers = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings_of_transformers["eos_token"] == EOT
    again = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    again["model"]["merges"] = [" ".join(merge) for merge in again["model"]["merges"]]
    (tmp_path / "older.json").write_text(json.dumps(again))
    assert Tokenizer.from_huggingface(tmp_path / "older.json") == small


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(max_size=30), max_size=5),
    special=st.sampled_from([[], [EOT], ["a b", "é日"], ["\n", "日"]]),
)
def test_any_tokenizer_survives_saving(texts, special, tmp_path_factory):
    tokenizer = bpe.train_from_iterator(texts, 300, special)
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    assert Tokenizer.from_pretrained(folder) == tokenizer
    assert Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", special) == tokenizer
    ids = {token: tokenizer.token_to_id(token) for token in special}
    assert Tokenizer.from_tiktoken(folder / "tokenizer.tiktoken", special_tokens=ids) == tokenizer


def test_another_pattern_is_kept_and_followed(tmp_path):
    tokenizer = bpe.train_from_iterator([CORPUS], 350, [EOT], pattern=r"\p{L}+|\s|[^\p{L}\s]+")
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == tokenizer
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(CORPUS + EOT).ids == tokenizer.encode(CORPUS + EOT)
    assert theirs.decode(tokenizer.encode(CORPUS), skip_special_tokens=False) == CORPUS


def test_special_tokens_with_the_first_ids(small, tmp_path):
    tokens = [EOT.encode(), *(token for _, token in sorted(small.vocab.items()) if token != EOT.encode())]
    tokenizer = Tokenizer(dict(enumerate(tokens)), small.merges, [EOT])
    assert tokenizer.eot_id == 0
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == tokenizer
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(CORPUS + EOT).ids == tokenizer.encode(CORPUS + EOT)


def test_gpt2s_own_files(gpt2, tmp_path):
    assert gpt2.vocab_size == 50257
    assert len(gpt2.merges) == 50000
    assert gpt2.encode(f"Hello world{EOT}{EOT}") == [15496, 995, 50256, 50256]
    assert Tokenizer.from_huggingface(data_file("vocabularies/gpt2_tokenizer.json")) == gpt2
    gpt2.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == gpt2
    assert Tokenizer.from_tiktoken(tmp_path / "tokenizer.tiktoken", special_tokens={EOT: 50256}) == gpt2


def test_cl100k(tmp_path):
    import tiktoken

    pattern = (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
        r"\s+(?!\S)|\s"
    )
    path = data_file("vocabularies/cl100k_base.tiktoken")
    ours = Tokenizer.from_tiktoken(path, pattern, {EOT: 100257})
    ranks = {token: id_ for id_, token in ours.vocab.items() if id_ != 100257}
    theirs = tiktoken.Encoding("c", pat_str=pattern, mergeable_ranks=ranks, special_tokens={EOT: 100257})
    text = data_file("torture_mix.txt").read_bytes()[:300_000].decode("utf-8", "ignore") + EOT
    assert ours.encode(text) == theirs.encode(text, allowed_special="all")
    ours.save_tiktoken(tmp_path / "again.tiktoken")
    assert (tmp_path / "again.tiktoken").read_bytes() == path.read_bytes()


def test_a_version_line_and_windows_line_ends_in_merges(small, tmp_path):
    small.save_pretrained(tmp_path)
    merges = (tmp_path / "merges.txt").read_text("utf-8")
    assert merges.startswith("#version: 0.2\n")
    (tmp_path / "merges.txt").write_bytes(merges.split("\n", 1)[1].replace("\n", "\r\n").encode())
    assert Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", [EOT]) == small


def test_ids_out_of_order_have_no_tiktoken_file(small, tmp_path):
    vocab = small.vocab
    vocab[256], vocab[257] = vocab[257], vocab[256]
    tokenizer = Tokenizer(vocab, small.merges, [EOT])
    with pytest.raises(ValueError, match="cannot be written for tiktoken: "):
        tokenizer.save_tiktoken(tmp_path / "tokenizer.tiktoken")
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.tiktoken").exists()
    assert Tokenizer.from_pretrained(tmp_path) == tokenizer
    for bad, message in (
        (Tokenizer({0: b"a"}, []), "lacks some of the 256 bytes"),
        (Tokenizer({**{i: bytes([i]) for i in range(256)}, 256: b"a"}, []), "two of its ids have the same bytes"),
    ):
        with pytest.raises(ValueError, match=message):
            bad.save_tiktoken(tmp_path / "tokenizer.tiktoken")


def test_tokens_that_would_be_written_alike_are_refused(tmp_path):
    tokenizer = Tokenizer({**{i: bytes([i]) for i in range(256)}}, [], ["Ġ"])
    with pytest.raises(ValueError, match="ids 32 and 256 are both written 'Ġ'"):
        tokenizer.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_wrong_files(tmp_path, small):
    small.save_pretrained(tmp_path)
    good = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    vocab, merges, bad = tmp_path / "vocab.json", tmp_path / "merges.txt", tmp_path / "bad"

    def refused(read, content, message):
        bad.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        with pytest.raises(ValueError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)

    def read_vocab():
        return Tokenizer.from_files(bad, merges)

    def read_merges():
        return Tokenizer.from_files(vocab, bad, [EOT])

    def read_tiktoken():
        return Tokenizer.from_tiktoken(bad)

    def read_huggingface():
        return Tokenizer.from_huggingface(bad)

    for read in (read_vocab, read_merges, read_tiktoken, read_huggingface):
        with pytest.raises(FileNotFoundError, match="no file"):
            read()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.from_pretrained(tmp_path / "absent")
    refused(read_vocab, b"\xff", "is not UTF-8")
    refused(read_vocab, b"{", "is not JSON")
    refused(read_vocab, [], "has no vocabulary")
    refused(read_vocab, {"a": 0, "b": 0}, "has the id 0 for 'b'")
    refused(read_vocab, {"a b": 0}, "has ' ', which stands for no byte")
    refused(read_merges, b"a b\na b c\n", r"line 2 of .* is 'a b c', expected two tokens")
    refused(read_tiktoken, b"YQ== 0\nnot base64 1\n", "line 2 of")
    refused(read_tiktoken, b"YQ== 0\nYg== 0\n", "each with a rank of its own")
    refused(read_tiktoken, b"YQ== 0\nYWFh 1\n", "b'aaa' of rank 1 is not two tokens")
    refused(read_huggingface, {}, "has no BPE model")
    for change, message in [
        ({"normalizer": {"type": "NFC"}}, "normalizer"),
        ({"model": {**good["model"], "ignore_merges": True}}, "ignore_merges"),
        ({"model": {**good["model"], "type": "Unigram"}}, "model.type = 'Unigram'"),
        ({"model": {**good["model"], "merges": ["a b c"]}}, "has the merge 'a b c'"),
        ({"added_tokens": [{**good["added_tokens"][0], "lstrip": True}]}, "lstrip of the added token"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "expected ByteLevel"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
        ({"pre_tokenizer": None}, "expected ByteLevel"),
    ]:
        refused(read_huggingface, {**good, **change}, message)
    with pytest.raises(ValueError, match="has id 97, which b'a' has"):
        Tokenizer.from_tiktoken(tmp_path / "tokenizer.tiktoken", special_tokens={EOT: 97})
