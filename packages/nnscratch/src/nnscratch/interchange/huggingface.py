"""Export to the directory format of `transformers`, as a Llama."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from nnscratch.config import TransformerConfig
from nnscratch.interchange.native import write_atomically
from nnscratch.transformer import TransformerLM

# Our names to Llama's, inside one layer.
LAYER_NAMES = {
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w3": "mlp.up_proj",
    "ffn.w2": "mlp.down_proj",
}
OUTER_NAMES = {
    "token_embeddings.weight": "model.embed_tokens.weight",
    "ln_final.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
LLAMA = {"norm": "pre", "position": "rope", "ffn": "swiglu"}


def export_huggingface(model: TransformerLM, tokenizer_dir: str | Path, out_dir: str | Path) -> None:
    """Write a directory that `AutoModelForCausalLM` and `AutoTokenizer` of `transformers` open.

    Llama turns the pairs (i, i + d/2) of a head where we turn (2i, 2i + 1), so the rows of the query and key matrices
    are put into Llama's order; the logits are the same.

    Args:
        model: a model whose architecture is a Llama's: norm="pre", position="rope", ffn="swiglu".
        tokenizer_dir: holds `tokenizer.json` (as `bpe.Tokenizer.save_pretrained` writes); its files are copied along.
        out_dir: the new directory; files of the same names in it are replaced.

    Raises:
        ValueError: the architecture is not a Llama's; the message names the field.
        FileNotFoundError: there is no `tokenizer.json`.
    """
    from safetensors.torch import save_file

    tokenizer_dir, out_dir = Path(tokenizer_dir), Path(out_dir)
    for field, expected in LLAMA.items():
        if getattr(model.config, field) != expected:
            raise ValueError(
                f"{field} is {getattr(model.config, field)!r}: expected {expected!r}, since a Llama has no other; "
                "such a model can be kept with save_pretrained"
            )
    if not (tokenizer_dir / "tokenizer.json").is_file():
        raise FileNotFoundError(f"{tokenizer_dir / 'tokenizer.json'}: there is no such file; save the tokenizer there")
    end = _end_of_text(tokenizer_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    tensors = llama_state(model)
    write_atomically(out_dir / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    settings = {
        "config.json": llama_config(model.config, str(next(model.parameters()).dtype).removeprefix("torch."), end),
        "generation_config.json": {"bos_token_id": end, "eos_token_id": end},
    }
    for name, value in settings.items():
        text = json.dumps(value, indent=2) + "\n"
        write_atomically(out_dir / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tokenizer_dir / name).is_file():
            write_atomically(out_dir / name, lambda path, name=name: shutil.copyfile(tokenizer_dir / name, path))


def llama_state(model: TransformerLM) -> dict[str, Tensor]:
    """The weights under Llama's names and in its order of rows."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        if name.startswith("layers."):
            _, number, part = name.split(".", 2)
            part = part.removesuffix(".weight")
            if part in ("attn.q_proj", "attn.k_proj"):
                heads = tensor.unflatten(0, (model.config.num_heads, -1, 2))
                tensor = heads.transpose(1, 2).reshape(tensor.shape)
            tensors[f"model.layers.{number}.{LAYER_NAMES[part]}.weight"] = tensor.contiguous()
        elif not (model.config.tie_embeddings and name == "lm_head.weight"):
            tensors[OUTER_NAMES[name]] = tensor.contiguous()
    return tensors


def llama_config(config: TransformerConfig, dtype: str, end_of_text: int | None) -> dict[str, Any]:
    """The `config.json` of a Llama with our sizes."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "head_dim": config.d_head,
        "max_position_embeddings": config.context_length,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": dtype,
    }


def _end_of_text(tokenizer_dir: Path) -> int | None:
    """The id of <|endoftext|> in `tokenizer.json`, if it has that token."""
    tokens = json.loads((tokenizer_dir / "tokenizer.json").read_text("utf-8")).get("added_tokens", [])
    return next((token["id"] for token in tokens if token["content"] == "<|endoftext|>"), None)
