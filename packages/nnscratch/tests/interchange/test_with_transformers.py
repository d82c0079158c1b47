"""Comparison with transformers as an oracle, in one file because its import takes seconds."""

import dataclasses
import json

import pytest
import torch
from samples import END_OF_TEXT, byte_level_tokenizer, edit, names_in, save_letters, save_tokenizer, varied

from nnscratch import (
    RopeScaling,
    TransformerLM,
    complete,
    export_gguf,
    export_huggingface,
    generate,
    import_huggingface,
)
from nnscratch.interchange.huggingface_config import read_huggingface_config

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture
def tokenizer_dir(tmp_path):
    return save_letters(tmp_path / "tokenizer")


SHARED = {"num_kv_heads": 2, "head_size": 12}


@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": True}, {"rope_theta": 500.0, "norm_eps": 1e-3}, SHARED, {"num_kv_heads": 1}]
)
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


def test_heads_that_do_not_divide_the_width_make_a_mistral(tmp_path, transformers, tokenizer_dir, config):
    model = varied(TransformerLM(dataclasses.replace(config, num_heads=5, head_size=8)))
    export_huggingface(model, tokenizer_dir, tmp_path / "out")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert isinstance(loaded, transformers.MistralForCausalLM)
    ids = torch.randint(49, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids), atol=1e-4, rtol=0)


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


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
@pytest.mark.parametrize("layout", ["its own", "version 4", "version 5"])
def test_a_model_of_transformers_computes_the_same(tmp_path, transformers, tied, shard_size, layout):
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


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 2}, SHARED], ids=str)
def test_transformers_reads_a_gguf_file_alike(tmp_path, transformers, config, changes):
    pytest.importorskip("gguf", reason="gguf is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed, without which transformers reads no GGUF")
    tokenizer_dir = save_tokenizer(tmp_path / "tokenizer", byte_level_tokenizer())
    model = varied(TransformerLM(dataclasses.replace(config, vocab_size=264, **changes)))
    export_gguf(model, tokenizer_dir, tmp_path / "model.gguf")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    ids = torch.randint(264, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids), atol=1e-4, rtol=0)
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    original = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    for text in ("the  other\n\n they've 1234", "naïve 漢字 🙂", f"the{END_OF_TEXT} the"):
        assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text).ids


LLAMA_3_SCALING = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 16,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 5}
TINY = {"hidden_size": 32, "intermediate_size": 44, "num_attention_heads": 4, "num_key_value_heads": 2}
# Small models in the shape of published ones: class, its settings, and what our config has to say about it.
PUBLISHED = {
    "Llama 2": ("Llama", {"num_key_value_heads": 4}, {}),
    "Llama 3": (
        "Llama",
        {"rope_theta": 500_000.0, "attention_dropout": 0.1},
        {"rope_theta": 500_000.0, "num_kv_heads": 2, "attention_dropout": 0.1},
    ),
    "Llama 3.1": ("Llama", {"scaling": LLAMA_3_SCALING}, {"rope_scaling": RopeScaling(4.0, 1.0, 3.0, 16)}),
    "Llama, wide heads": ("Llama", {"head_dim": 20}, {"head_size": 20}),
    "TinyLlama": (
        "Llama",
        {"num_attention_heads": 8, "hidden_size": 64, "num_key_value_heads": 1},
        {"num_kv_heads": 1},
    ),
    "SmolLM 2": (
        "Llama",
        {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48, "tie_word_embeddings": True},
        {"tie_embeddings": True},
    ),
    "Mistral 0.1": ("Mistral", {"sliding_window": 5}, {"window": 5}),
    "Mistral 0.3": ("Mistral", {"sliding_window": None, "head_dim": 12}, {"window": None, "head_size": 12}),
    "Qwen 2": ("Qwen2", {"tie_word_embeddings": True}, {"qkv_bias": True, "window": None}),
    "Qwen 2, windows": ("Qwen2", WINDOW | {"max_window_layers": 2}, {"window": 5, "full_attention_layers": (0, 1)}),
    "Qwen 2.5": ("Qwen2", {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "num_key_value_heads": 1}, {"rope_theta": 1e6}),
    "Qwen 3": ("Qwen3", {"head_dim": 16}, {"qk_norm": True, "head_size": 16}),
    "Qwen 3, windows": ("Qwen3", WINDOW | {"max_window_layers": 0, "head_dim": 8}, {"window": 5}),
    "SmolLM 3": ("SmolLM3", {}, {"no_rope_layers": (3,), "rope_theta": 2e6, "tie_embeddings": True}),
    "SmolLM 3, windows": (
        "SmolLM3",
        WINDOW | {"no_rope_layers": [0, 1, 1, 0], "tie_word_embeddings": False},
        {"no_rope_layers": (0, 3), "full_attention_layers": (1, 2), "window": 5},
    ),
    "SmolLM 3, all windows": (
        "SmolLM3",
        WINDOW | {"no_rope_layers": [1, 1, 1, 1], "layer_types": ["sliding_attention"] * 4},
        {"no_rope_layers": (), "full_attention_layers": (), "window": 5},
    ),
    "OLMo 2": ("Olmo2", {"head_dim": 10}, {"norm": "reordered", "qk_norm_scope": "all_heads", "head_size": 10}),
}


def published(transformers, name):
    """A small random model of a class of transformers, or a skip if this version lacks it."""
    family, settings, fields = PUBLISHED[name]
    if not hasattr(transformers, f"{family}ForCausalLM"):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    if transformers.__version__.startswith("4.48") and name == "Qwen 2, windows":
        pytest.skip("transformers 4.48 puts the windows of a Qwen 2 into all layers")
    settings = TINY | {"vocab_size": 53, "num_hidden_layers": 4, "max_position_embeddings": 32} | settings
    scaling, theta = settings.pop("scaling", None), settings.pop("rope_theta", None)
    if transformers.__version__.startswith("4."):
        settings |= {"rope_scaling": scaling} if scaling else {}
        settings |= {"rope_theta": theta} if theta else {}
    elif scaling or theta:
        settings["rope_parameters"] = (scaling or {"rope_type": "default"}) | {"rope_theta": theta or 10_000.0}
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    config = getattr(transformers, f"{family}Config")(**settings | ids)
    return varied(getattr(transformers, f"{family}ForCausalLM")(config)).eval(), fields


@pytest.mark.parametrize("name", PUBLISHED)
def test_small_published_models_compute_and_write_the_same_and_return(tmp_path, transformers, tokenizer_dir, name):
    theirs, fields = published(transformers, name)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_huggingface(tmp_path / "theirs").eval()
    assert {field: getattr(ours.config, field) for field in fields} == fields
    ids = torch.randint(53, (2, 24))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)
    # The shorter prompt is padded on the left; each goes on as it would alone.
    prompts = [ids[0, :9].tolist(), ids[1, :2].tolist()]
    written = complete(ours, prompts, max_new_tokens=16, temperature=0.0)
    for prompt, continuation in zip(prompts, written, strict=True):
        alone = torch.tensor([prompt])
        generated = theirs.generate(alone, attention_mask=torch.ones_like(alone), do_sample=False, max_new_tokens=16)
        assert generated[0, len(prompt) :].tolist() == continuation
    export_huggingface(ours, tokenizer_dir, tmp_path / "back")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert type(back) is type(theirs)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(back.state_dict()[key], tensor) for key, tensor in theirs.state_dict().items())
    with torch.no_grad():
        assert torch.equal(back(ids).logits, theirs(ids).logits)
    assert import_huggingface(tmp_path / "back").config == ours.config


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Olmo2"])
def test_absent_fields_of_a_config_have_the_defaults_of_transformers(tmp_path, transformers, family):
    if not hasattr(transformers, f"{family}Config"):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    sizes = {"vocab_size": 53, "num_hidden_layers": 40, "max_position_embeddings": 32}
    sizes |= {"hidden_size": 4096, "intermediate_size": 44, "num_attention_heads": 32}
    config = getattr(transformers, f"{family}Config")(**sizes)
    config.save_pretrained(tmp_path / "all")
    content = {"model_type": config.model_type} | sizes
    (tmp_path / "sizes.json").write_text(json.dumps(content))
    everything, _ = read_huggingface_config(tmp_path / "all" / "config.json")
    assert read_huggingface_config(tmp_path / "sizes.json")[0] == everything
