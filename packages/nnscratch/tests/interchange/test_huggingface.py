import dataclasses
import json

import pytest
import torch
from samples import edit, names_in, save_letters, varied

from nnscratch import TransformerLM, export_huggingface, import_huggingface


@pytest.fixture
def tokenizer_dir(tmp_path):
    return save_letters(tmp_path / "tokenizer")


@pytest.fixture
def exported(tmp_path, tokenizer_dir, config):
    export_huggingface(varied(TransformerLM(config)), tokenizer_dir, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (49, 49)),
        ({"bos_token": "!", "eos_token": {"content": '"', "special": True}}, (0, 1)),
        ({"bos_token": None, "eos_token": "#"}, (49, 2)),
    ],
)
def test_bos_and_eos_are_those_of_the_settings(tmp_path, tokenizer_dir, model, settings, expected):
    (tokenizer_dir / "tokenizer_config.json").write_text(json.dumps(settings))
    (tokenizer_dir / "special_tokens_map.json").write_text(json.dumps({}))
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert (written["bos_token_id"], written["eos_token_id"]) == expected


def test_a_tokenizer_may_lack_an_end_of_text_token(tmp_path, tokenizer_dir, model):
    edit(tokenizer_dir / "tokenizer.json", {"added_tokens": []})
    edit(tokenizer_dir / "tokenizer_config.json", {"eos_token": ...})
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] is None


FIELDS = {"norm": "post", "position": "none", "ffn": "silu", "logit_soft_cap": 30.0, "ngram_rows": 97}


@pytest.mark.parametrize(("name", "value"), [*FIELDS.items(), ("norm", "none"), ("ffn", "relu_squared")])
def test_models_of_no_family_are_refused(tmp_path, tokenizer_dir, config, name, value):
    model = TransformerLM(dataclasses.replace(config, **{name: value}))
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not a Llama; only {name}=.* can be exported"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert names_in(tmp_path) == {"tokenizer"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qkv_bias": True, "qk_norm": True}, "qk_norm=True is not a Qwen 2; only qk_norm=False"),
        ({"qk_norm": True, "norm": "post"}, "norm='post' is not a Qwen 3; only norm='pre'"),
        ({"qk_norm": True, "qk_norm_scope": "all_heads"}, "qk_norm_scope='all_heads' is not a Qwen 3"),
        ({"norm": "reordered"}, "qk_norm=False is not an OLMo 2; only qk_norm=True"),
        (
            {"norm": "reordered", "qk_norm": True},
            "qk_norm_scope='head' is not an OLMo 2; only qk_norm_scope='all_heads'",
        ),
        ({"no_rope_layers": (1,), "logit_soft_cap": 5.0}, "logit_soft_cap=5.0 is not a SmolLM 3"),
        (
            {"qk_norm": True, "window": 4, "full_attention_layers": (1,)},
            r"full_attention_layers=\(1,\) is not a Qwen 3; only the first layers of one have no window",
        ),
    ],
)
def test_mixtures_of_families_are_refused_by_the_name_of_the_field(tmp_path, tokenizer_dir, config, changes, message):
    model = TransformerLM(dataclasses.replace(config, **changes))
    with pytest.raises(ValueError, match=message):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")


@pytest.mark.parametrize("family", [{}, {"norm": "reordered", "qk_norm_scope": "all_heads", "num_kv_heads": 2}])
def test_norms_without_gains_are_exported_with_gains_of_one(tmp_path, tokenizer_dir, config, family):
    model = TransformerLM(dataclasses.replace(config, qk_norm=True, qk_norm_gains=False, **family)).to(torch.bfloat16)
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    back = import_huggingface(tmp_path / "out")
    assert back.config == dataclasses.replace(model.config, qk_norm_gains=True)
    assert {param.dtype for param in back.parameters()} == {torch.bfloat16}
    assert all(norm.weight.eq(1).all() for layer in back.layers for norm in (layer.attn.q_norm, layer.attn.k_norm))
    ids = torch.randint(config.vocab_size, (2, 7))
    assert torch.equal(back(ids), model(ids))


def test_the_tokenizer_must_exist_and_fit(tmp_path, tokenizer_dir, config, model):
    with pytest.raises(FileNotFoundError, match=r"no file '.*tokenizer.json'; name a directory with a saved tokenizer"):
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


def test_an_export_overwrites_neither_a_model_nor_a_file(tmp_path, tokenizer_dir, model):
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
    heads = {"num_kv_heads": 2, "head_size": 12} if tied else {}
    changes = {"tie_embeddings": tied, "rope_theta": 500.0, "norm_eps": 1e-3} | heads
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


def test_a_model_of_another_class_is_refused(tmp_path, tokenizer_dir, model):
    @dataclasses.dataclass
    class OtherConfig:
        vocab_size: int = 50
        context_length: int = 16
        num_layers: int = 2
        logit_soft_cap: float | None = None

    model.config = OtherConfig()
    with pytest.raises(TypeError, match="the config is of class OtherConfig, expected TransformerConfig; export a"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
