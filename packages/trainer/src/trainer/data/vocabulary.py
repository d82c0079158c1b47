"""How many different ids a model can read, as far as it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn


def find_vocab_size(model: nn.Module) -> int | None:
    """Return the size of a model's vocabulary, or None if it does not show.

    It is `model.config.vocab_size`, or else the number of rows of the embeddings: of `nn.Embedding` and other modules
    with "embedding" in the name of their class and a two-dimensional `weight`, and of two-dimensional parameters with
    "embedding" in their own name. Embeddings of positions (with "pos" or "wpe" in the name) do not count; of several
    others the largest one does, so that no data are refused that the model could read.
    """
    config: Any = getattr(model, "config", None)
    size = config.get("vocab_size") if isinstance(config, Mapping) else getattr(config, "vocab_size", None)
    if isinstance(size, int) and not isinstance(size, bool) and size >= 1:
        return size
    return max(_embedding_rows(model), default=None)


def _embedding_rows(model: nn.Module) -> Iterator[int]:
    for path, module in model.named_modules():
        named = [(name, parameter) for name, parameter in module.named_parameters(path, recurse=False)]
        is_embedding = "embedding" in type(module).__name__.lower()
        for name, parameter in named:
            own = name.rpartition(".")[2].lower()
            counts = "embedding" in own or (is_embedding and own == "weight")
            if counts and parameter.dim() == 2 and not any(word in name.lower() for word in ("pos", "wpe")):
                yield parameter.shape[0]
