"""Folders with all formats: files are read back, and other libraries get the same ids from them."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
import tokenizers
from helpers import CORPUS, EOT, data_file
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer
from bpe.formats import gpt2
from bpe.text import byte_characters, from_characters, to_characters


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


SETTINGS = {
    "tokenizer_config.json": """{"eos_token": "<|im_end|>",\n "pad_token": "<pad>", "bos_token": null,
 "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}", "model_max_length": 77,
 "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}""",
    "special_tokens_map.json": '{"eos_token": "<|im_end|>", "pad_token": "<pad>"}',
    "chat_template.jinja": "{# newer #}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\n",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "generation_config.json": '{"eos_token_id": 1}',
}


@pytest.fixture
def published(tmp_path):
    """A folder like those of Qwen and Llama, and its tokenizer.json."""
    tokenizer = bpe.train_from_iterator([CORPUS], 300, [], pattern=r"\p{L}+|[^\p{L}]")
    tokenizer.save_huggingface(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    contents = ["<s>", "<|im_start|>", "<|im_end|>", "<pad>", "<think>"]
    tokens = [{"id": 300 + number, "content": text, **flags} for number, text in enumerate(contents)]
    tokens[2]["normalized"] = True
    tokens[4]["special"] = False
    content["added_tokens"] = tokens
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}},
    }
    folder = tmp_path / "published"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    for name, text in SETTINGS.items():
        (folder / name).write_text(text, "utf-8")
    return folder, content


def contents_of(folder):
    """Return the texts of all files in a folder except tiktoken's, and the tokenizer.json as an object."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.j*") if path.is_file()}
    return {
        name: json.loads(p.read_bytes()) if name == "tokenizer.json" else p.read_text() for name, p in files.items()
    }


def test_a_published_folder_is_written_as_it_was_read(published, tmp_path):
    """F7: eos, pad, chat template, post-processor and the kinds of added tokens used to be lost."""
    folder, content = published
    expected = {**SETTINGS, "tokenizer.json": content}
    tokenizer = Tokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert contents_of(folder) == expected
    del expected["generation_config.json"]  # belongs to the model
    tokenizer.save_pretrained(tmp_path / "other")
    assert contents_of(tmp_path / "other") == expected
    for copied in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer), Named.from_pretrained(folder)):
        copied.save_pretrained(tmp_path / "again")
        assert contents_of(tmp_path / "again") == expected


def test_settings_do_not_count_for_equality(published):
    folder, _ = published
    with_settings = Tokenizer.from_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    without = Tokenizer.from_pretrained(folder)
    assert without == with_settings
    assert without.sha256 == with_settings.sha256
    (folder / "tokenizer_config.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"tokenizer_config.json' is not UTF-8"):
        Tokenizer.from_pretrained(folder)


def test_a_changed_definition_is_written_with_the_settings_that_still_hold(published, tmp_path):
    folder, content = published
    spec = Tokenizer.from_pretrained(folder)._spec
    vocab = {id_ + 10: token for id_, token in spec.vocab.items()}
    changed = Tokenizer.from_spec(replace(spec, vocab=vocab, normalization="NFC", pattern=GPT2_PATTERN))
    changed.save_pretrained(tmp_path / "changed")
    assert Tokenizer.from_pretrained(tmp_path / "changed") == changed
    written = contents_of(tmp_path / "changed")
    assert written["tokenizer_config.json"] == SETTINGS["tokenizer_config.json"]
    assert written["tokenizer.json"]["truncation"] == content["truncation"]
    assert written["tokenizer.json"]["post_processor"]["special_tokens"]["<s>"]["ids"] == [310]
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "changed" / "tokenizer.json"))
    theirs.no_truncation()
    text = "<s>cafe\u0301 12<|im_end|><think> 'll"
    assert theirs.encode(text).ids == [310, *changed.encode(text)]


def test_tokens_added_later_follow_those_of_the_file(published, tmp_path):
    folder, content = published
    spec = Tokenizer.from_pretrained(folder)._spec
    vocab = {**spec.vocab, 305: b"<new>"}
    Tokenizer.from_spec(replace(spec, vocab=vocab, special_tokens=[*spec.special_tokens, "<new>"])).save_pretrained(
        tmp_path / "more"
    )
    written = contents_of(tmp_path / "more")["tokenizer.json"]
    assert written["added_tokens"][:-1] == content["added_tokens"]
    assert written["model"]["vocab"] == content["model"]["vocab"]
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "more" / "tokenizer.json")).token_to_id("<new>") == 305


@pytest.mark.filterwarnings("ignore")  # of the import, which is a heavy one
def test_transformers_reads_a_saved_folder_like_the_published_one(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    folder, _ = published
    ours = Tokenizer.from_pretrained(folder)
    ours.save_pretrained(tmp_path / "saved")
    text = f"<think>{CORPUS}<|im_end|></think><s> x"
    for kind in (transformers.AutoTokenizer, transformers.PreTrainedTokenizerFast):
        before, after = kind.from_pretrained(folder), kind.from_pretrained(tmp_path / "saved")
        ids = after(text)["input_ids"]
        assert ids == before(text)["input_ids"] == [300, *ours.encode(text)]
        assert after(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
        decoded = after.decode(ids, skip_special_tokens=True)
        assert decoded == before.decode(ids, skip_special_tokens=True)
        assert "<think>" in decoded
        assert "<|im_end|>" not in decoded
        for name in ("eos_token", "bos_token", "pad_token", "chat_template", "model_max_length", "vocab_size"):
            assert getattr(after, name) == getattr(before, name), name
        assert (after.eos_token, after.pad_token, after.model_max_length, len(after)) == (
            "<|im_end|>",
            "<pad>",
            77,
            305,
        )


def test_the_files_of_gpt2_stay_where_they_hold_this_vocabulary(tmp_path):
    """Qwen's folder has them for a class of `transformers` that knows the pattern."""
    tokenizer = bpe.train_from_iterator([CORPUS], 300, [EOT], pattern=r"\p{L}+|[^\p{L}]")
    tokenizer.save_pretrained(tmp_path)
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    gpt2.save(tokenizer._spec, vocab, merges)
    without_special = {text: id_ for text, id_ in json.loads(vocab.read_text("utf-8")).items() if text != EOT}
    vocab.write_text(json.dumps(without_special), "utf-8")
    before = vocab.read_bytes(), merges.read_bytes()
    tokenizer.save_pretrained(tmp_path)
    assert (vocab.read_bytes(), merges.read_bytes()) == before
    for other, content in (
        (vocab, "{"),
        (vocab, json.dumps({**without_special, "x y": 7})),
        (merges, "#version: 0.2\n"),
    ):
        vocab.write_bytes(before[0])
        merges.write_bytes(before[1])
        other.write_text(content, "utf-8")
        tokenizer.save_pretrained(tmp_path)
        assert not vocab.exists()
        assert not merges.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": (r"\p{N}", GPT2_PATTERN)},
        {"byte_pattern": "a"},
        {"add_prefix_space": True},
        {"added_tokens": [bpe.AddedToken("<tool>")]},
    ],
)
def test_what_the_files_of_gpt2_cannot_hold_is_left_out(changes, small, tmp_path):
    small.save_pretrained(tmp_path)
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT], **changes)
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "merges.txt").exists()
    assert Tokenizer.from_pretrained(tmp_path) == Named.from_pretrained(tmp_path) == tokenizer
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(f"<tool>{CORPUS}{EOT}").ids == tokenizer.encode(f"<tool>{CORPUS}{EOT}")


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
