import dataclasses
import json

import pytest
import torch
from variants import variant

from nnscratch import TransformerLM
from nnscratch.interchange.files import replacing
from nnscratch.interchange.native import untied_state, write_pretrained

CHANGES = [
    {},
    {"tie_embeddings": True},
    {"norm": "none", "ffn": "silu"},
    {"qk_norm": True, "num_kv_heads": 2, "head_size": 12},
    {"ngram_rows": 97, "ngrams": (2, 4)},
    {"ngram_rows": 97, "ngram_min_count": 2},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_comes_back_as_it_was(tmp_path, config, changes, dtype):
    model = variant(config, changes).to(dtype)
    if "ngram_rows" in changes:
        model.ngram_embeddings.learn_ngrams(torch.arange(60) % 7)
    model.save_pretrained(tmp_path / "new" / "model")
    loaded = TransformerLM.from_pretrained(tmp_path / "new" / "model")
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert loaded.state_dict()[name].dtype == (dtype if tensor.is_floating_point() else torch.int64)
    assert (loaded.lm_head.weight is loaded.token_embeddings.weight) == model.config.tie_embeddings
    assert {path.name for path in (tmp_path / "new" / "model").iterdir()} == {"config.json", "model.safetensors"}


def test_the_weights_are_as_readable_as_the_config(tmp_path, config):
    """safetensors 0.8 alone would let only the owner read them."""
    TransformerLM(config).save_pretrained(tmp_path)
    modes = [(tmp_path / name).stat().st_mode for name in ("model.safetensors", "config.json")]
    assert modes[0] == modes[1]


def test_a_model_saved_before_heads_could_share_keys_opens(tmp_path, model):
    older = {name: value for name, value in model.config.to_dict().items() if name not in ("num_kv_heads", "head_size")}
    write_pretrained(tmp_path, older, untied_state(model, tied=False))
    loaded = TransformerLM.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded.layers[1].attn.k_proj.weight, model.layers[1].attn.k_proj.weight)


def test_tied_weights_stay_tied_on_their_way_from_meta(tmp_path, config):
    """R30: `to_empty` makes two parameters of one, and saving would drop the head that was then trained."""
    config = dataclasses.replace(config, tie_embeddings=True)
    model = TransformerLM(config, device="meta").to_empty(device="cpu")
    assert model.lm_head.weight is model.token_embeddings.weight
    assert model.to(torch.float64).lm_head.weight is model.token_embeddings.weight
    model.lm_head.weight = torch.nn.Parameter(model.token_embeddings.weight.detach().clone().fill_(1.0))
    with pytest.raises(ValueError, match=r"lm_head.weight differs from token_embeddings.weight, .*; set model.lm_head"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("tied", [False, True])
def test_each_weight_keeps_its_type(tmp_path, config, tied):
    model = TransformerLM(dataclasses.replace(config, tie_embeddings=tied), dtype=torch.bfloat16)
    for name, param in model.named_parameters():
        if "ln" in name:
            param.data = torch.rand(param.shape)
    model.save_pretrained(tmp_path)
    loaded = TransformerLM.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0)  # which looks at the type too
    assert (loaded.lm_head.weight is loaded.token_embeddings.weight) == tied
    token_ids = torch.arange(8)[None]
    assert torch.equal(loaded(token_ids), model(token_ids))


def test_saving_again_replaces(tmp_path, config, model):
    model.save_pretrained(tmp_path)
    other = TransformerLM(dataclasses.replace(config, d_ff=32))
    other.save_pretrained(str(tmp_path))
    assert TransformerLM.from_pretrained(str(tmp_path)).config.d_ff == 32


def test_missing_files_are_named(tmp_path, model):
    with pytest.raises(
        FileNotFoundError, match=r"no file '.*config.json'; name a directory that save_pretrained wrote"
    ):
        TransformerLM.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file '.*model.safetensors'"):
        TransformerLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", r"config.json' is not JSON \(.*\); save the model again"),
        ("config.json", "[]", "config.json' holds a list, expected an object; save the model again"),
        (
            "config.json",
            '{"model_type": "llama"}',
            "config.json' has format=None, expected 'nnscratch'; name",
        ),
        ("model.safetensors", "nonsense", r"model.safetensors' is not safetensors \(.*\); save the model again"),
    ],
)
def test_damaged_files_are_refused(tmp_path, model, name, content, message):
    model.save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        TransformerLM.from_pretrained(tmp_path)


def test_files_of_two_models_are_refused(tmp_path, config, model):
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(written | {"rope_theta": 500.0}))
    with pytest.raises(ValueError, match="come from two different saves; save the model again"):
        TransformerLM.from_pretrained(tmp_path)


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
