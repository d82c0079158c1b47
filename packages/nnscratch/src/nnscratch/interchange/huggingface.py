"""Export to a directory that `transformers` opens as a Llama."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnscratch.config import TransformerConfig
from nnscratch.files import replacing
from nnscratch.pretrained import CONFIG_FILE, WEIGHTS_FILE, untied_state, write_json, write_weights
from nnscratch.transformer import TransformerLM

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_END_OF_TEXT = "<|endoftext|>"
_LLAMA = {"norm": "pre", "position": "rope", "ffn": "swiglu", "qk_norm": False, "logit_soft_cap": None}
_NAMES = {
    "token_embeddings": "model.embed_tokens",
    "ln_final": "model.norm",
    "lm_head": "lm_head",
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w2": "mlp.down_proj",
    "ffn.w3": "mlp.up_proj",
}


def export_huggingface(model: TransformerLM, tokenizer_dir: str | Path, out_dir: str | Path) -> None:
    """Write a directory that `AutoModelForCausalLM` and `AutoTokenizer` of transformers open.

    Rows of the query and key projections are put in another order, because Llama turns x[k] with x[k + d_k/2] where
    this package turns x[2k] with x[2k + 1]; scores do not change by it.

    Args:
        model: a model that is a Llama: norm "pre", position "rope", ffn "swiglu", no qk_norm, no logit_soft_cap.
        tokenizer_dir: where `tokenizer.json` and its companions are; they are copied.
        out_dir: the directory to write; made if need be.

    Raises:
        ValueError: if the model is not a Llama, or the tokenizer has more tokens than the model.
        FileNotFoundError: if there is no `tokenizer.json`.
    """
    config = model.config
    for name, wanted in _LLAMA.items():
        if getattr(config, name) != wanted:
            raise ValueError(f"{name}={getattr(config, name)!r} is not a Llama; only {name}={wanted!r} can be exported")
    tokenizer_dir, out_dir = Path(tokenizer_dir), Path(out_dir)
    end_of_text = _check_tokenizer(tokenizer_dir, config.vocab_size)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (tokenizer_dir / name).is_file():
            with replacing(out_dir / name) as temporary:
                shutil.copyfile(tokenizer_dir / name, temporary)
    weights = {_llama_name(name): _llama_rows(name, tensor, config) for name, tensor in untied_state(model).items()}
    write_weights(weights, out_dir / WEIGHTS_FILE, {})
    dtype = model.token_embeddings.weight.dtype
    write_json(_llama_config(config, dtype, end_of_text), out_dir / CONFIG_FILE)


def _check_tokenizer(directory: Path, vocab_size: int) -> int | None:
    """Return the id of the end-of-text token, if there is one."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; name a directory to which a tokenizer was saved")
    tokenizer = json.loads(path.read_text("utf-8"))
    ids = dict(tokenizer["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    if ids and max(ids.values()) >= vocab_size:
        raise ValueError(
            f"{str(path)!r} has ids up to {max(ids.values())}, but vocab_size={vocab_size}; "
            f"name the tokenizer that the model was trained with"
        )
    return ids.get(_END_OF_TEXT)


def _llama_name(name: str) -> str:
    """Return the name that transformers gives to a parameter."""
    module = name.removesuffix(".weight")
    if not module.startswith("layers."):
        return f"{_NAMES[module]}.weight"
    _, index, part = module.split(".", 2)
    return f"model.layers.{index}.{_NAMES[part]}.weight"


def _llama_rows(name: str, tensor: Tensor, config: TransformerConfig) -> Tensor:
    """Reorder each head's rows from adjacent pairs to halves, in queries and keys."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return tensor
    pairs = tensor.view(config.num_heads, config.head_size // 2, 2, config.d_model)
    return pairs.transpose(1, 2).reshape(config.d_model, config.d_model)


def _llama_config(config: TransformerConfig, dtype: torch.dtype, end_of_text: int | None) -> dict[str, Any]:
    """Return the config.json of a LlamaForCausalLM, with the fields of versions 4 and 5 of transformers."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }
