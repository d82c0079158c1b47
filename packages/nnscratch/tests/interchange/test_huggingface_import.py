"""Reading of weights by `import_huggingface`, and refused configs and weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nnscratch import import_huggingface
from nnscratch.config import TransformerConfig
from nnscratch.interchange.families import LLAMA
from nnscratch.interchange.huggingface_config import huggingface_config, read_huggingface_config
from nnscratch.transformer import TransformerLM

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"

LLAMA_3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def written_config(**changes):
    sizes = {"vocab_size": 50, "context_length": 16, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64}
    return huggingface_config(TransformerConfig(**sizes), LLAMA, torch.float32, None, None) | changes


@pytest.fixture
def directory(tmp_path):
    """A model as transformers would write it, with random weights."""
    shapes = {EMBEDDING: (50, 32), "model.norm.weight": (32,), HEAD: (50, 32)}
    for index in range(2):
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            shapes[f"model.layers.{index}.{part}.weight"] = (32, 32)
        for part, shape in (("gate_proj", (64, 32)), ("up_proj", (64, 32)), ("down_proj", (32, 64))):
            shapes[f"model.layers.{index}.mlp.{part}.weight"] = shape
        for part in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{index}.{part}.weight"] = (32,)
    save_file({name: torch.randn(shape) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(written_config()))
    return tmp_path


def change_weights(directory, change):
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")


def change_config(directory, **changes):
    content = {name: value for name, value in written_config(**changes).items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(content))


def test_rows_become_pairs_and_nothing_is_written(directory):
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    state = import_huggingface(directory).state_dict()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    weights = load_file(directory / "model.safetensors")
    heads = weights[QUERY].view(4, 8, 32)
    expected = torch.stack((heads[:, :4], heads[:, 4:]), dim=2).reshape(32, 32)
    assert torch.equal(state["layers.1.attn.q_proj.weight"], expected)
    assert torch.equal(state["layers.1.attn.v_proj.weight"], weights[QUERY.replace("q_proj", "v_proj")])
    assert torch.equal(state["layers.0.ffn.w3.weight"], weights["model.layers.0.mlp.up_proj.weight"])


@pytest.mark.parametrize(
    ("changes", "field", "came", "expected"),
    [
        (
            {"model_type": "gemma"},
            "model_type",
            "'gemma'",
            "one of 'llama', 'mistral', 'qwen2', 'qwen3', 'smollm3', .*",
        ),
        ({"model_type": ...}, "model_type", "None", "one of 'llama', .*"),
        ({"model_type": "mistral"}, "architectures", r"\['LlamaForCausalLM'\]", r"\['MistralForCausalLM'\]"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures", r"\[.*\]", r"\['LlamaForCausalLM'\]"),
        ({"num_key_value_heads": 3}, "num_key_value_heads", "3", "a divisor of num_attention_heads=4"),
        ({"num_key_value_heads": 8}, "num_key_value_heads", "8", "a divisor of num_attention_heads=4"),
        ({"num_key_value_heads": 0}, "num_key_value_heads", "0", "an integer of at least 1"),
        (
            {"num_attention_heads": 5, "num_key_value_heads": None, "head_dim": None},
            "num_attention_heads",
            "5",
            "a divisor of hidden_size=32 into even heads",
        ),
        ({"head_dim": 7}, "head_dim", "7", "an even number"),
        ({"head_dim": "8"}, "head_dim", "'8'", "an integer of at least 1"),
        ({"hidden_act": "gelu"}, "hidden_act", "'gelu'", "'silu'"),
        ({"attention_bias": True}, "attention_bias", "True", "False"),
        ({"mlp_bias": True}, "mlp_bias", "True", "False"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor", "0.5", "1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config", "{'bits': 4}", "None"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type", "'linear'", "'default' or 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type", "'yarn'", "'default' or 'llama3'"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.factor", "None", "a positive number"),
        (
            {"rope_parameters": LLAMA_3_SCALING | {"original_max_position_embeddings": 8.5}},
            "rope_parameters.original_max_position_embeddings",
            "8.5",
            "an integer",
        ),
        ({"rope_parameters": {"factor": 8.0}}, "rope_parameters.factor", "8.0", "no such setting"),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "rope_scaling.partial_rotary_factor", "0.5", "1"),
        ({"rope_scaling": 2.0}, "rope_scaling", "2.0", "an object"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings", "'yes'", "True or False"),
        ({"vocab_size": ...}, "vocab_size", "None", "an integer of at least 1"),
        ({"max_position_embeddings": 0}, "max_position_embeddings", "0", "an integer of at least 1"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps", "-1.0", "a positive number"),
        ({"attention_dropout": 1.0}, "attention_dropout", "1.0", "a number from 0 up to, not including, 1"),
        ({"attention_dropout": "0.1"}, "attention_dropout", "'0.1'", "a number from 0 up to, not including, 1"),
        ({"rope_parameters": {"rope_theta": "high"}}, "rope_parameters.rope_theta", "'high'", "a positive number"),
    ],
)
def test_configs_that_cannot_be_expressed_are_refused(directory, changes, field, came, expected):
    change_config(directory, **changes)
    with pytest.raises(ValueError, match=rf"config.json' has {field}={came}, expected {expected}; "):
        import_huggingface(directory)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (None, None)),
        ({"num_key_value_heads": None, "head_dim": None}, (None, None)),
        ({"num_key_value_heads": 1}, (1, None)),
        ({"head_dim": 10}, (None, 10)),
        ({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 8}, (None, 8)),
    ],
)
def test_heads_of_a_config(tmp_path, changes, expected):
    change_config(tmp_path, **changes)
    config, _ = read_huggingface_config(tmp_path / "config.json")
    assert (config.num_kv_heads, config.head_size) == expected


def test_the_number_of_devices_in_pretraining_is_ignored(directory):
    before = import_huggingface(directory).config
    change_config(directory, pretraining_tp=2)
    assert import_huggingface(directory).config == before


@pytest.mark.parametrize("switched_on", [True, False])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "smollm3"])
def test_layers_with_a_window_that_is_off_are_refused(tmp_path, family, switched_on):
    windows = {"use_sliding_window": switched_on, "sliding_window": None if switched_on else 4}
    change_config(tmp_path, model_type=family, architectures=..., layer_types=["full_attention"] * 2, **windows)
    assert read_huggingface_config(tmp_path / "config.json")[0].window is None
    types = ["full_attention", "sliding_attention"]
    change_config(tmp_path, model_type=family, architectures=..., layer_types=types, **windows)
    with pytest.raises(ValueError, match=r"has layer_types=\[.*\], expected 'full_attention' for each layer without"):
        read_huggingface_config(tmp_path / "config.json")


def test_two_bases_of_angles_are_refused(directory):
    change_config(directory, rope_theta=500.0)
    message = r"has rope_theta=500.0 and rope_parameters.rope_theta=10000.0, expected one value; remove the wrong one"
    with pytest.raises(ValueError, match=message):
        import_huggingface(directory)


def test_two_original_context_lengths_are_refused(directory):
    numbers = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
    change_config(directory, rope_parameters={"rope_type": "llama3", **numbers}, original_max_position_embeddings=8)
    import_huggingface(directory)
    change_config(directory, rope_parameters={"rope_type": "llama3", **numbers}, original_max_position_embeddings=4)
    message = (
        "has original_max_position_embeddings=4 and rope_parameters.original_max_position_embeddings=8, expected one"
    )
    with pytest.raises(ValueError, match=message):
        import_huggingface(directory)


def test_absent_fields_mean_what_transformers_takes_them_to_mean(directory):
    optional = "architectures num_key_value_heads head_dim hidden_act attention_bias attention_dropout mlp_bias"
    optional += " rms_norm_eps rope_theta rope_parameters tie_word_embeddings torch_dtype bos_token_id eos_token_id"
    change_config(directory, **dict.fromkeys(optional.split(), ...))
    config = import_huggingface(directory).config
    assert (config.norm_eps, config.rope_theta, config.tie_embeddings) == (1e-6, 10_000.0, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(QUERY), f"lack {QUERY}; fetch or save the model again"),
        (lambda weights: weights.pop(HEAD), f"lack {HEAD}; fetch"),
        (
            lambda weights: [weights.pop(name) for name in list(weights) if "layers.1" in name],
            "lack model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight, .* and 6 more; fetch",
        ),
        (
            lambda weights: weights.update({QUERY.replace("weight", "bias"): torch.zeros(32)}),
            "have model.layers.1.self_attn.q_proj.bias, which config.json does not account for; check that both belong",
        ),
        (
            lambda weights: weights.update({QUERY: torch.zeros(16, 32)}),
            rf"{QUERY} in .* has shape \(16, 32\), expected \(32, 32\) from config.json; check that both belong",
        ),
        (
            lambda weights: weights.update({QUERY: torch.zeros(32, 32, dtype=torch.int8)}),
            f"{QUERY} in .* has dtype I8, expected one of F16, BF16, F32, F64; save the model without quantization",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(directory, change, message):
    change_weights(directory, change)
    with pytest.raises(ValueError, match=message):
        import_huggingface(directory)


def test_tables_of_angles_in_old_files_are_left_out(directory):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(directory, lambda weights: weights.update({name: torch.ones(4)}))
    assert isinstance(import_huggingface(directory), TransformerLM)


@pytest.mark.parametrize(
    ("norms", "others", "expected"),
    [
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float16, torch.float32),
    ],
)
def test_the_dtype_is_the_narrowest_that_holds_all_weights(directory, norms, others, expected):
    def change(weights):
        for name, tensor in weights.items():
            weights[name] = tensor.to(norms if tensor.dim() == 1 else others)

    change_weights(directory, change)
    weights, model = load_file(directory / "model.safetensors"), import_huggingface(directory)
    assert {param.dtype for param in model.parameters()} == {expected}
    assert torch.equal(model.ln_final.weight, weights["model.norm.weight"].to(expected))
    assert torch.equal(model.lm_head.weight, weights[HEAD].to(expected))


def test_a_tied_head_may_be_there_but_not_differ(directory):
    change_config(directory, tie_word_embeddings=True)
    with pytest.raises(
        ValueError, match=rf"has tie_word_embeddings=True and a {HEAD} that differs from {EMBEDDING}, expected"
    ):
        import_huggingface(directory)
    change_weights(directory, lambda weights: weights.update({HEAD: weights[EMBEDDING].clone()}))
    model = import_huggingface(directory)
    assert model.lm_head.weight is model.token_embeddings.weight


def test_missing_files_are_named(directory):
    weights = (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no file model.safetensors or .*; pickled weights .* are not read"):
        import_huggingface(directory)
    index = {"weight_map": {HEAD: "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"no file '.*00001-of-00002.safetensors', which .* lists; fetch all"):
        import_huggingface(directory)
    weights.unlink()
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file '.*config.json'; name a local directory that"):
        import_huggingface(directory)


@pytest.mark.parametrize("name", ["../other.safetensors", "pytorch_model.bin", 3])
def test_an_index_may_only_name_safetensors_in_its_directory(directory, name):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {HEAD: name}}))
    with pytest.raises(ValueError, match=r"lists .*, expected a .safetensors file in the same directory; do not"):
        import_huggingface(directory)


def test_two_shards_with_one_tensor_are_refused(directory):
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    save_file({HEAD: torch.zeros(50, 32)}, directory / "b.safetensors")
    index = {"weight_map": {EMBEDDING: "a.safetensors", HEAD: "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"b.safetensors' has {HEAD}, which is in another shard too; fetch"):
        import_huggingface(directory)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", r"config.json' is not JSON \(.*\); fetch or save the model again"),
        ("config.json", "[]", r"config.json' holds a list, expected an object; fetch or save the model again"),
        ("model.safetensors", "nonsense", r"model.safetensors' is not safetensors \(.*\); fetch or save it again"),
    ],
)
def test_damaged_files_are_refused(directory, name, content, message):
    (directory / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_huggingface(directory)
