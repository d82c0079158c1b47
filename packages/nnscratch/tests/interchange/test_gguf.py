import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from samples import (
    ALPHABET,
    END_OF_TEXT,
    MERGES,
    PATTERN,
    added,
    byte_level_tokenizer,
    save_tokenizer,
    split_by,
    varied,
)

from nnscratch import RopeScaling, TransformerLM, export_gguf

gguf = pytest.importorskip("gguf", reason="gguf is not installed")


@pytest.fixture
def content():
    return byte_level_tokenizer()


@pytest.fixture
def tokenizer_dir(tmp_path, content):
    return save_tokenizer(tmp_path / "tokenizer", content)


@pytest.fixture
def config(config):
    return dataclasses.replace(config, vocab_size=264)


def tensors_of(path):
    reader = gguf.GGUFReader(path)
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}


def metadata_of(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def llama_cpp_logits(path, ids):
    """Compute what llama.cpp's "llama" graph computes, in float64, from nothing but the file."""
    tensors = {name: values.astype(np.float64) for name, values in tensors_of(path).items()}
    metadata = metadata_of(path)
    heads, kv_heads = metadata["llama.attention.head_count"], metadata["llama.attention.head_count_kv"]
    head_size, eps = metadata["llama.attention.key_length"], metadata["llama.attention.layer_norm_rms_epsilon"]
    rotated, base = metadata["llama.rope.dimension_count"], metadata["llama.rope.freq_base"]
    length = len(ids)

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * tensors[f"{name}.weight"]

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T

    def rope(x):  # LLAMA_ROPE_TYPE_NORM: element 2k goes with element 2k + 1
        angles = np.arange(length)[:, None] * base ** (-np.arange(0, rotated, 2) / rotated)
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
        return np.stack((turned.real, turned.imag), axis=-1).reshape(x.shape)

    x = tensors["token_embd.weight"][ids]
    for index in range(metadata["llama.block_count"]):
        block = f"blk.{index}"
        normed = norm(x, f"{block}.attn_norm")
        q, k, v = (
            linear(normed, f"{block}.attn_{kind}").reshape(length, number, head_size).swapaxes(0, 1)
            for kind, number in zip("qkv", (heads, kv_heads, kv_heads), strict=True)
        )
        k, v = np.repeat(k, heads // kv_heads, axis=0), np.repeat(v, heads // kv_heads, axis=0)
        scores = rope(q) @ rope(k).swapaxes(1, 2) / np.sqrt(q.shape[-1])
        weights = np.exp(np.where(np.tri(length, dtype=bool), scores, -np.inf))
        attended = weights / weights.sum(-1, keepdims=True) @ v
        x = x + linear(attended.swapaxes(0, 1).reshape(length, -1), f"{block}.attn_output")
        normed = norm(x, f"{block}.ffn_norm")
        gate = linear(normed, f"{block}.ffn_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(normed, f"{block}.ffn_up"), f"{block}.ffn_down")
    return linear(norm(x, "output_norm"), "output" if "output.weight" in tensors else "token_embd")


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": True}, {"rope_theta": 500.0, "norm_eps": 1e-3}, {"num_kv_heads": 2, "head_size": 12}],
    ids=str,
)
def test_the_file_computes_the_model_s_logits(tmp_path, tokenizer_dir, config, changes):
    model = varied(TransformerLM(dataclasses.replace(config, **changes)))
    export_gguf(model, str(tokenizer_dir), str(tmp_path / "new" / "model.gguf"))
    ids = torch.randint(264, (16,))
    expected = llama_cpp_logits(tmp_path / "new" / "model.gguf", ids.numpy())
    with torch.no_grad():
        torch.testing.assert_close(model(ids[None])[0].double(), torch.from_numpy(expected), atol=1e-4, rtol=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("dtype", "stored", "file_type"),
    [("f32", torch.float32, 0), ("f16", torch.float16, 1), ("bf16", torch.bfloat16, 32)],
)
def test_every_tensor_is_stored_in_its_dtype(tmp_path, tokenizer_dir, config, tied, dtype, stored, file_type):
    model = varied(TransformerLM(dataclasses.replace(config, tie_embeddings=tied)))
    export_gguf(model, tokenizer_dir, tmp_path / "model.gguf", dtype=dtype)
    state = model.state_dict()
    expected = {"token_embd": state["token_embeddings.weight"], "output_norm": state["ln_final.weight"]}
    if not tied:
        expected["output"] = state["lm_head.weight"]
    parts = {"ln1": "attn_norm", "ln2": "ffn_norm", "attn.output_proj": "attn_output"}
    parts |= {f"attn.{kind}_proj": f"attn_{kind}" for kind in "qkv"}
    parts |= {"ffn.w1": "ffn_gate", "ffn.w2": "ffn_down", "ffn.w3": "ffn_up"}
    for index in range(2):
        expected |= {f"blk.{index}.{part}": state[f"layers.{index}.{ours}.weight"] for ours, part in parts.items()}
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert {tensor.name for tensor in reader.tensors} == {f"{name}.weight" for name in expected}
    for tensor in reader.tensors:
        values = expected[tensor.name.removesuffix(".weight")]
        kind = "F32" if values.dim() == 1 else dtype.upper()
        assert tensor.tensor_type.name == kind
        assert tensor.shape.tolist() == list(values.shape)[::-1]
        rounded = values if kind == "F32" else values.to(stored).float()
        assert np.array_equal(gguf.dequantize(tensor.data, tensor.tensor_type), rounded.numpy())
    assert metadata_of(tmp_path / "model.gguf")["general.file_type"] == file_type


def test_a_bfloat16_model_is_written_unchanged(tmp_path, tokenizer_dir, config):
    model = TransformerLM(config, dtype=torch.bfloat16)
    export_gguf(model, tokenizer_dir, tmp_path / "model.gguf", dtype="bf16")
    assert np.array_equal(tensors_of(tmp_path / "model.gguf")["output.weight"], model.lm_head.weight.detach().float())


def test_metadata_say_what_llama_cpp_needs(tmp_path, tokenizer_dir, config):
    model = TransformerLM(dataclasses.replace(config, num_kv_heads=2, head_size=12))
    export_gguf(model, tokenizer_dir, tmp_path / "model.gguf")
    metadata = metadata_of(tmp_path / "model.gguf")
    tokens, types = metadata.pop("tokenizer.ggml.tokens"), metadata.pop("tokenizer.ggml.token_type")
    assert {name: value for name, value in metadata.items() if not name.startswith("GGUF.")} == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "model",
        "general.file_type": 0,
        "general.quantization_version": 2,
        "llama.context_length": 16,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 12,
        "llama.attention.value_length": 12,
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.dimension_count": 12,
        "llama.vocab_size": 264,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert tokens == [END_OF_TEXT, *ALPHABET, "th", "the", "Ġthe", "<think>", "[PAD261]", "[PAD262]", "[PAD263]"]
    normal, control, user_defined, unused = 1, 3, 4, 5
    assert types == [control, *[normal] * 259, user_defined, *[unused] * 3]


def test_merges_in_pairs_and_a_split_by_the_pattern_are_the_same(tmp_path, content, tokenizer_dir, config):
    export_gguf(TransformerLM(config), tokenizer_dir, tmp_path / "a.gguf")
    content["model"]["merges"] = [merge.split(" ") for merge in MERGES]
    content["pre_tokenizer"] = split_by(PATTERN)
    (tokenizer_dir / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<think>", "eos_token": "the"}))
    export_gguf(TransformerLM(config), save_tokenizer(tokenizer_dir, content), tmp_path / "b.gguf")
    a, b = metadata_of(tmp_path / "a.gguf"), metadata_of(tmp_path / "b.gguf")
    assert (b.pop("tokenizer.ggml.bos_token_id"), b.pop("tokenizer.ggml.eos_token_id")) == (260, 258)
    assert (a.pop("general.name"), b.pop("general.name")) == ("a", "b")
    assert b == {name: a[name] for name in b}


REFUSED = {
    "model.type": ({"model": {"type": "WordLevel"}}, "'WordLevel', expected 'BPE'"),
    "model.ignore_merges": ({"model": {"ignore_merges": True}}, "True, expected none"),
    "model.byte_fallback": ({"model": {"byte_fallback": True}}, "True, expected none"),
    "model.end_of_word_suffix": ({"model": {"end_of_word_suffix": "</w>"}}, "'</w>', expected none"),
    "model.merges": ({"model": {"merges": []}}, r"\[\], expected at least one merge"),
    "normalizer": ({"normalizer": {"type": "NFC"}}, r"{'type': 'NFC'}, expected none"),
    "post_processor": ({"post_processor": {"type": "TemplateProcessing"}}, "'TemplateProcessing', expected none or"),
    "pre_tokenizer": ({"pre_tokenizer": {"type": "Metaspace"}}, r"\['Metaspace'\], expected ByteLevel, alone or"),
    "pre_tokenizer.add_prefix_space": ({"pre_tokenizer": {"add_prefix_space": True}}, "True, expected False"),
    "pre_tokenizer.use_regex": ({"pre_tokenizer": {"use_regex": False}}, "False, expected True without a Split"),
    "pre_tokenizer.pattern": ({"pre_tokenizer": split_by(r"\w+")}, r"{'Regex': '.*'}, expected GPT-2's, as a Regex"),
    "added_tokens.lstrip of <mask>": ({"added_tokens": [added("<mask>", 261) | {"lstrip": True}]}, "True, expected"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_another_kind_of_tokenizer_is_refused(tmp_path, content, config, field):
    changes, message = REFUSED[field]
    for name, value in changes.items():
        content[name] = content[name] | value if isinstance(value, dict) and content[name] else value
    directory = save_tokenizer(tmp_path / "tokenizer", content)
    with pytest.raises(ValueError, match=rf"tokenizer.json' has {field}={message}.*; only byte-level BPE with GPT-2's"):
        export_gguf(TransformerLM(config), directory, tmp_path / "new" / "model.gguf")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("vocab", "message"),
    [({"漢": 261}, "model.vocab='漢', expected tokens in GPT-2's"), ({"a": 300}, "ids up to 300, but vocab_size=264")],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path, content, config, vocab, message):
    content["model"]["vocab"] |= vocab
    with pytest.raises(ValueError, match=message):
        export_gguf(TransformerLM(config), save_tokenizer(tmp_path / "tokenizer", content), tmp_path / "model.gguf")


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path, content, config):
    directory = tmp_path / "tokenizer"
    save_tokenizer(directory, json.loads(json.dumps(content).replace(END_OF_TEXT, "<s>")))
    with pytest.raises(
        ValueError, match="has eos_token=None, expected an end-of-text token, named in tokenizer_config"
    ):
        export_gguf(TransformerLM(config), directory, tmp_path / "model.gguf")
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<s>"}))
    export_gguf(TransformerLM(config), directory, tmp_path / "model.gguf")
    assert metadata_of(tmp_path / "model.gguf")["tokenizer.ggml.bos_token_id"] == 0


def test_a_vocabulary_without_all_bytes_is_refused(tmp_path, content, config):
    del content["model"]["vocab"]["!"]
    with pytest.raises(ValueError, match=r"has model.vocab='255 of the bytes', expected all 256"):
        export_gguf(TransformerLM(config), save_tokenizer(tmp_path / "tokenizer", content), tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm", "post"),
        ("position", "none"),
        ("ffn", "silu"),
        ("qk_norm", True),
        ("qkv_bias", True),
        ("window", 4),
        ("logit_soft_cap", 30.0),
        ("ngram_rows", 97),
    ],
)
def test_models_other_than_llamas_are_refused(tmp_path, tokenizer_dir, config, name, value):
    model = TransformerLM(dataclasses.replace(config, **{name: value}))
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not a Llama; only {name}=.* can be exported"):
        export_gguf(model, tokenizer_dir, tmp_path / "model.gguf")


def test_scaled_frequencies_are_refused(tmp_path, tokenizer_dir, config):
    model = TransformerLM(dataclasses.replace(config, rope_scaling=RopeScaling()))
    with pytest.raises(ValueError, match=r"rope_scaling=RopeScaling\(.*\) cannot be exported to this format; use"):
        export_gguf(model, tokenizer_dir, tmp_path / "model.gguf")


def test_arguments_are_checked_and_an_error_leaves_the_old_file(tmp_path, tokenizer_dir, config):
    model, path = TransformerLM(config), tmp_path / "out" / "model.gguf"
    with pytest.raises(ValueError, match="dtype='q4_0' is unknown; choose one of f32, f16, bf16"):
        export_gguf(model, tokenizer_dir, path, dtype="q4_0")
    with pytest.raises(IsADirectoryError, match=r"is a directory, expected the name of a file; add model.gguf to it"):
        export_gguf(model, tokenizer_dir, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file '.*tokenizer.json'; name a directory with a saved tokenizer"):
        export_gguf(model, tmp_path, path)
    path.parent.mkdir()
    path.write_text("old")
    model.lm_head.weight.data[3, 4] = 1e5
    message = r"lm_head.weight has a weight of 1e\+05, and float16 ends at 65504; choose dtype='bf16'"
    with pytest.raises(ValueError, match=message):
        export_gguf(model, tokenizer_dir, path, dtype="f16")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_package_is_named(tmp_path, tokenizer_dir, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r'needs the package gguf, .*; pip install "scratchlm-nnscratch\[gguf\]"'):
        export_gguf(TransformerLM(config), tokenizer_dir, tmp_path / "model.gguf")
