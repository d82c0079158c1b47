"""Rules for Llama models: the configs that are one, and names and order of rows of parameters in other formats."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nnscratch.config import TransformerConfig

_FREE = frozenset(
    "vocab_size context_length d_model num_layers num_heads num_kv_heads head_size d_ff rope_theta tie_embeddings "
    "norm_eps".split()
)
"""Fields in which one Llama differs from another."""


def require_llama(config: object) -> TransformerConfig:
    """Return the config if it is that of a Llama: norm "pre", position "rope", ffn "swiglu", and nothing else.

    Raises:
        TypeError: If it is the config of another class of models.
        ValueError: If it is not that of a Llama, naming the first field with another value.
    """
    if not isinstance(config, TransformerConfig):
        raise TypeError(
            f"the config is of class {type(config).__name__}, expected TransformerConfig; export a TransformerLM"
        )
    wanted: dict[str, Any] = {"norm": "pre", "position": "rope", "ffn": "swiglu"}
    for field in fields(config):
        # Every other field adds to the architecture, and its default leaves the addition out.
        value, plain = getattr(config, field.name), wanted.get(field.name, field.default)
        if field.name not in _FREE and plain is not MISSING and value != plain:
            raise ValueError(
                f"{field.name}={value!r} is not a Llama; only {field.name}={plain!r} can be exported, "
                f"so keep the model in the format of save_pretrained"
            )
    return config


def renamed(name: str, names: Mapping[str, str], block: str) -> str:
    """Return the name of a parameter in another format.

    Args:
        name: Name in our state dict, such as "layers.0.attn.q_proj.weight".
        names: Name in the other format of each module, and of each part of a layer.
        block: Prefix of a layer's number in the other format.
    """
    module = name.removesuffix(".weight")
    if not module.startswith("layers."):
        return f"{names[module]}.weight"
    _, index, part = module.split(".", 2)
    return f"{block}.{index}.{names[part]}.weight"


def is_rotated(name: str) -> bool:
    """Return whether a parameter produces the inputs of the rotary embedding: queries or keys."""
    return name.endswith(("attn.q_proj.weight", "attn.k_proj.weight"))


def pairs_to_halves(weight: Float[Tensor, "d_out d_in"], config: TransformerConfig) -> Float[Tensor, "d_out d_in"]:
    """Reorder each head's rows so that x[2k] and x[2k + 1] become x[k] and x[k + d_k / 2]."""
    heads = weight.view(-1, config.d_k // 2, 2, weight.shape[1])
    return heads.transpose(1, 2).reshape(weight.shape)


def halves_to_pairs(weight: Float[Tensor, "d_out d_in"], config: TransformerConfig) -> Float[Tensor, "d_out d_in"]:
    """Undo `pairs_to_halves`."""
    heads = weight.view(-1, 2, config.d_k // 2, weight.shape[1])
    return heads.transpose(1, 2).reshape(weight.shape)
