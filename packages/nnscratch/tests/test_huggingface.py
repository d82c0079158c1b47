import dataclasses
import json

import pytest
import torch

from nnscratch import TransformerLM, export_huggingface, generate, import_huggingface

END_OF_TEXT = "<|endoftext|>"


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture
def tokenizer_dir(tmp_path):
    """A byte-level tokenizer of 49 letters and an end-of-text token."""
    letters = [chr(code) for code in range(33, 82)]
    token = {"id": 49, "content": END_OF_TEXT, "special": True, "single_word": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [token | {"lstrip": False, "rstrip": False}],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {letter: index for index, letter in enumerate(letters)}, "merges": []},
    }
    directory = tmp_path / "tokenizer"
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "notes.txt").write_text("not copied")
    return directory


@pytest.fixture
def exported(tmp_path, tokenizer_dir, config):
    export_huggingface(varied(TransformerLM(config)), tokenizer_dir, tmp_path / "out")
    return tmp_path / "out"


def varied(model):
    """Move all parameters: gains of 1 would hide a mix-up."""
    for param in model.parameters():
        param.data.add_(0.1 * torch.randn_like(param))
    return model


def edit(path, changes):
    """Set fields of a JSON file; those that become ... are removed."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def names_in(directory):
    return {path.name for path in directory.iterdir()}


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"rope_theta": 500.0, "norm_eps": 1e-3}])
def test_transformers_computes_the_same(tmp_path, transformers, tokenizer_dir, config, changes):
    model, out = varied(TransformerLM(dataclasses.replace(config, **changes))), tmp_path / "new" / "out"
    export_huggingface(model, str(tokenizer_dir), str(out))
    files = {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names_in(out) == files
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert isinstance(loaded, transformers.LlamaForCausalLM)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(49, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids), atol=1e-4, rtol=0)
    assert (loaded.generation_config.bos_token_id, loaded.generation_config.eos_token_id) == (49, 49)
    prompt = ids[:1, :4]
    theirs = loaded.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12)
    assert torch.equal(theirs, generate(model, prompt, max_new_tokens=12, temperature=0.0, eos_id=49))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings", [{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}, {}, None]
)
def test_transformers_gives_the_tokenizer_s_ids(tmp_path, transformers, config, settings):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, the dog's log\n"] * 3, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    export_huggingface(TransformerLM(dataclasses.replace(config, vocab_size=300)), tmp_path, tmp_path / "out")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ("the cat", " the  mat\n\n sat", "naïve 漢字 🙂", f"the log{END_OF_TEXT}the", "a1234's ."):
        assert loaded.encode(text) == tokenizer.encode(text).ids
        assert loaded.decode(loaded.encode(text)) == text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (49, 49)),
        ({"bos_token": "!", "eos_token": {"content": '"', "special": True}}, (0, 1)),
        ({"bos_token": None, "eos_token": "#"}, (49, 2)),
    ],
)
def test_tokens_around_a_text_are_those_of_the_settings(tmp_path, tokenizer_dir, model, settings, expected):
    (tokenizer_dir / "tokenizer_config.json").write_text(json.dumps(settings))
    (tokenizer_dir / "special_tokens_map.json").write_text(json.dumps({}))
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert (written["bos_token_id"], written["eos_token_id"]) == expected


def test_a_tokenizer_without_end_of_text_is_none_s_business(tmp_path, tokenizer_dir, model):
    edit(tokenizer_dir / "tokenizer.json", {"added_tokens": []})
    edit(tokenizer_dir / "tokenizer_config.json", {"eos_token": ...})
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] is None


FIELDS = {"norm": "post", "position": "none", "ffn": "silu", "qk_norm": True, "logit_soft_cap": 30.0}


@pytest.mark.parametrize(("name", "value"), [*FIELDS.items(), ("norm", "none"), ("ffn", "relu_squared")])
def test_what_is_no_llama_is_refused(tmp_path, tokenizer_dir, config, name, value):
    model = TransformerLM(dataclasses.replace(config, **{name: value}))
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not a Llama; only {name}=.* can be exported"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert names_in(tmp_path) == {"tokenizer"}


def test_the_tokenizer_must_be_there_and_fit(tmp_path, tokenizer_dir, config, model):
    with pytest.raises(FileNotFoundError, match=r"no file '.*tokenizer.json'; name a directory to which a tokenizer"):
        export_huggingface(model, tmp_path / "nowhere", tmp_path / "out")
    small = TransformerLM(dataclasses.replace(config, vocab_size=49))
    with pytest.raises(ValueError, match=r"has ids up to 49, but vocab_size=49; name the tokenizer that the model was"):
        export_huggingface(small, tokenizer_dir, tmp_path / "out")
    edit(tokenizer_dir / "tokenizer_config.json", {"pad_token": "[PAD]"})
    with pytest.raises(ValueError, match=r"has pad_token='\[PAD\]', expected a token of tokenizer.json; remove it"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
    (tokenizer_dir / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match=r"tokenizer.json' holds a list, expected an object; save the tokenizer again"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert names_in(tmp_path) == {"tokenizer"}


def test_an_export_replaces_an_earlier_one_and_nothing_else(exported, tokenizer_dir, config):
    (exported / "README.md").write_text("mine")
    (exported / "chat_template.jinja").write_text("of another tokenizer")
    export_huggingface(TransformerLM(dataclasses.replace(config, d_ff=32)), tokenizer_dir, exported)
    assert import_huggingface(exported).config.d_ff == 32
    assert "README.md" in names_in(exported)
    assert "chat_template.jinja" not in names_in(exported)


def test_an_export_that_fails_leaves_what_was(exported, tmp_path, tokenizer_dir, config, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("nnscratch.interchange.huggingface.write_weights", fail)
    for out in (exported, tmp_path / "new"):
        with pytest.raises(OSError, match="disk full"):
            export_huggingface(TransformerLM(dataclasses.replace(config, d_ff=32)), tokenizer_dir, out)
    assert import_huggingface(exported).config == config
    assert names_in(tmp_path) == {"tokenizer", "out"}


def test_an_export_takes_no_place_of_something_else(tmp_path, tokenizer_dir, model):
    model.save_pretrained(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"mine' holds a model of save_pretrained, which .*; name another directory"):
        export_huggingface(model, tokenizer_dir, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"has format='nnscratch', expected .*; open the directory with TransformerLM"):
        import_huggingface(tmp_path / "mine")
    with pytest.raises(NotADirectoryError, match=r"notes.txt' is a file, expected a directory; name another"):
        export_huggingface(model, tokenizer_dir, tokenizer_dir / "notes.txt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("tied", [False, True])
def test_an_export_comes_back_bit_for_bit(tmp_path, tokenizer_dir, config, dtype, tied):
    changes = {"tie_embeddings": tied, "rope_theta": 500.0, "norm_eps": 1e-3}
    model = varied(TransformerLM(dataclasses.replace(config, **changes), dtype=dtype))
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    before = names_in(tmp_path / "out")
    loaded = import_huggingface(str(tmp_path / "out"))
    assert loaded.config == model.config
    assert (loaded.lm_head.weight is loaded.token_embeddings.weight) == tied
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert loaded.state_dict()[name].dtype == dtype
    assert names_in(tmp_path / "out") == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
@pytest.mark.parametrize("layout", ["its own", "version 4", "version 5"])
def test_what_transformers_wrote_computes_the_same(tmp_path, transformers, tied, shard_size, layout):
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(
        **sizes, num_attention_heads=4, max_position_embeddings=16, tie_word_embeddings=tied, rms_norm_eps=1e-4
    )
    theirs = varied(transformers.LlamaForCausalLM(config)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "20KB")
    if layout == "version 4":
        old = {"rope_parameters": ..., "rope_theta": 10_000.0, "rope_scaling": None, "num_key_value_heads": ...}
        edit(tmp_path / "config.json", old)
    elif layout == "version 5":
        edit(tmp_path / "config.json", {"rope_parameters": {"rope_theta": 10_000, "rope_type": "default"}})
    ours = import_huggingface(tmp_path)
    ids = torch.randint(50, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)
    assert ours.config.tie_embeddings == tied
