"""Folders with all formats: files are read back, and other libraries get the same ids from them."""

import json

import pytest
import tokenizers
from helpers import CORPUS, EOT, data_file
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer
from bpe.formats.byte_characters import byte_characters, from_characters, to_characters


@given(st.binary(max_size=30))
def test_bytes_survive_their_written_form(data):
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
    tokenizer = bpe.train_from_iterator(["x", *texts], 300, special)
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


def test_tokens_with_the_same_written_form_are_refused(tmp_path):
    tokenizer = Tokenizer({**{i: bytes([i]) for i in range(256)}}, [], ["Ġ"])
    with pytest.raises(ValueError, match="ids 32 and 256 are both written 'Ġ'"):
        tokenizer.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_files(tmp_path):
    absent = tmp_path / "absent"
    for read in (
        lambda: Tokenizer.from_files(absent, absent),
        lambda: Tokenizer.from_tiktoken(absent),
        lambda: Tokenizer.from_huggingface(absent),
    ):
        with pytest.raises(FileNotFoundError, match="no file"):
            read()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.from_pretrained(absent)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer.tiktoken", "tokenizer_config.json"])
@pytest.mark.parametrize("pattern", [GPT2_PATTERN, r"\w+"])
def test_files_of_another_program_are_neither_replaced_nor_removed(small, tmp_path, name, pattern):
    """A11."""
    (tmp_path / name).write_text("mine")
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT], pattern=pattern)
    with pytest.raises(FileExistsError, match=f"has {name} but no tokenizer.json, so another program may need them"):
        tokenizer.save_pretrained(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    (tmp_path / name).rename(tmp_path / f"my_{name}")
    tokenizer.save_pretrained(tmp_path)
    small.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == tokenizer
    assert (tmp_path / "merges.txt").exists() == (pattern == GPT2_PATTERN)


def test_a_failed_attempt_to_save_can_be_repeated(small, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bpe.formats.tiktoken.save_ranks", fail)
        with pytest.raises(OSError, match="No space left"):
            small.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
    small.save_pretrained(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("bpe.formats.tiktoken.save_ranks", fail)
        with pytest.raises(OSError, match="No space left"):
            small.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == small


def test_json_that_is_nested_too_deeply_is_an_error_that_names_the_file(tmp_path):
    """A17."""
    for content in ("[" * 100_000, '{"a":' * 100_000, '{"model": ' + "[" * 100_000 + "]" * 100_000 + "}"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match=r"tokenizer.json' (has JSON nested too deeply to be read|is not JSON)"):
            Tokenizer.from_pretrained(tmp_path)


class Named(Tokenizer):
    """A subclass with state of its own."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.name = "mine"


def test_subclasses_keep_their_class(small, tmp_path):
    small.save_pretrained(tmp_path)
    for made in (
        Named.from_pretrained(tmp_path),
        Named.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", [EOT]),
        Named.from_tiktoken(tmp_path / "tokenizer.tiktoken", special_tokens=[EOT]),
        Named.from_huggingface(tmp_path / "tokenizer.json"),
    ):
        assert type(made) is Named
        assert made.name == "mine"
        assert made == small
        assert made.encode(CORPUS) == small.encode(CORPUS)
