import dataclasses
import json

import pytest
import torch

from nnscratch import TransformerLM, export_huggingface

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture
def tokenizer_dir(tmp_path):
    """A byte-level tokenizer of 49 letters and an end-of-text token."""
    letters = [chr(code) for code in range(33, 82)]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 49,
                "content": "<|endoftext|>",
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {letter: index for index, letter in enumerate(letters)}, "merges": []},
    }
    directory = tmp_path / "tokenizer"
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "notes.txt").write_text("not copied")
    return directory


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"rope_theta": 500.0, "norm_eps": 1e-3}])
def test_transformers_computes_the_same_logits(tmp_path, tokenizer_dir, config, changes):
    model = TransformerLM(dataclasses.replace(config, **changes))
    for param in model.parameters():  # gains of 1 would hide a mix-up
        param.data.add_(0.1 * torch.randn_like(param))
    out = tmp_path / "out"
    export_huggingface(model, tokenizer_dir, out)
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert isinstance(loaded, transformers.LlamaForCausalLM)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(50, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids), atol=1e-4, rtol=0)
    assert loaded.config.eos_token_id == 49
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.encode("ABA<|endoftext|>") == [32, 33, 32, 49]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm", "post"),
        ("norm", "none"),
        ("position", "none"),
        ("ffn", "silu"),
        ("ffn", "relu_squared"),
        ("qk_norm", True),
        ("logit_soft_cap", 30.0),
    ],
)
def test_what_is_no_llama_is_refused(tmp_path, tokenizer_dir, config, name, value):
    model = TransformerLM(dataclasses.replace(config, **{name: value}))
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not a Llama; only {name}=.* can be exported"):
        export_huggingface(model, tokenizer_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_must_be_there_and_fit(tmp_path, tokenizer_dir, config):
    with pytest.raises(FileNotFoundError, match=r"no file '.*tokenizer.json'; name a directory to which a tokenizer"):
        export_huggingface(TransformerLM(config), tmp_path / "nowhere", tmp_path / "out")
    small = TransformerLM(dataclasses.replace(config, vocab_size=49))
    with pytest.raises(ValueError, match=r"has ids up to 49, but vocab_size=49; name the tokenizer that the model was"):
        export_huggingface(small, tokenizer_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()
