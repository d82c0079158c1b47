"""What makes a `TransformerLM` a Llama, and how the rows of its projections are ordered elsewhere."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nnscratch.config import TransformerConfig

FREE = frozenset(
    "vocab_size context_length d_model num_layers num_heads d_ff rope_theta tie_embeddings norm_eps".split()
)
"""The fields in which one Llama differs from another."""


def require_llama(config: TransformerConfig) -> None:
    """Refuse what is not a Llama: norm "pre", position "rope", ffn "swiglu", and no addition to that.

    Raises:
        ValueError: naming the first field that is in the way.
    """
    wanted: dict[str, Any] = {"norm": "pre", "position": "rope", "ffn": "swiglu"}
    for field in fields(config):
        # Every other field is an addition to the architecture, which its default leaves out.
        value, plain = getattr(config, field.name), wanted.get(field.name, field.default)
        if field.name not in FREE and plain is not MISSING and value != plain:
            raise ValueError(
                f"{field.name}={value!r} is not a Llama; only {field.name}={plain!r} can be exported, "
                f"so keep the model in the format of save_pretrained"
            )


def renamed(name: str, names: Mapping[str, str], block: str) -> str:
    """Return a parameter's name in another format.

    Args:
        name: a name in our state dict, such as "layers.0.attn.q_proj.weight".
        names: what a module, or a part of a layer, is called there.
        block: what stands before a layer's number there.
    """
    module = name.removesuffix(".weight")
    if not module.startswith("layers."):
        return f"{names[module]}.weight"
    _, index, part = module.split(".", 2)
    return f"{block}.{index}.{names[part]}.weight"


def is_rotated(name: str) -> bool:
    """Tell whether a parameter of ours makes what the rotary embedding turns: queries or keys."""
    return name.endswith(("attn.q_proj.weight", "attn.k_proj.weight"))


def pairs_to_halves(weight: Float[Tensor, "d_model d_in"], config: TransformerConfig) -> Float[Tensor, "d_model d_in"]:
    """Reorder each head's rows so that x[2k] and x[2k + 1] become x[k] and x[k + head_size / 2]."""
    heads = weight.view(config.num_heads, config.head_size // 2, 2, weight.shape[1])
    return heads.transpose(1, 2).reshape(weight.shape)


def halves_to_pairs(weight: Float[Tensor, "d_model d_in"], config: TransformerConfig) -> Float[Tensor, "d_model d_in"]:
    """Undo `pairs_to_halves`."""
    heads = weight.view(config.num_heads, 2, config.head_size // 2, weight.shape[1])
    return heads.transpose(1, 2).reshape(weight.shape)
