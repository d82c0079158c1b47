"""Names of parameters in other formats, and their order of rows."""

import re
from collections.abc import Mapping

from torch import Tensor

from nnscratch.config import TransformerConfig

_ROTATED = re.compile(r"layers\.\d+\.attn\.[qk]_(proj|norm)\.(weight|bias)")


def renamed(name: str, names: Mapping[str, str], block: str) -> str:
    """Return the name of a parameter in another format.

    Args:
        name: Name in our state dict, such as "layers.0.attn.q_proj.weight".
        names: Name in the other format of each module, and of each part of a layer.
        block: Prefix of a layer's number in the other format.
    """
    module, _, kind = name.rpartition(".")
    if not module.startswith("layers."):
        return f"{names[module]}.{kind}"
    _, index, part = module.split(".", 2)
    return f"{block}.{index}.{names[part]}.{kind}"


def is_rotated(name: str) -> bool:
    """Return whether a parameter has one row for each input of the rotary embedding: a feature of queries or keys."""
    return _ROTATED.fullmatch(name) is not None


def pairs_to_halves(parameter: Tensor, config: TransformerConfig) -> Tensor:
    """Reorder the rows of each head so that x[2k] and x[2k + 1] become x[k] and x[k + d_k / 2]."""
    heads = parameter.unflatten(0, (-1, config.d_k // 2, 2))
    return heads.transpose(1, 2).reshape(parameter.shape)


def halves_to_pairs(parameter: Tensor, config: TransformerConfig) -> Tensor:
    """Undo `pairs_to_halves`."""
    heads = parameter.unflatten(0, (-1, 2, config.d_k // 2))
    return heads.transpose(1, 2).reshape(parameter.shape)
