"""The vocabulary size of a model, as far as the model shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn


def find_vocab_size(model: nn.Module) -> int | None:
    """Return the size of a model's vocabulary, or None if the model does not show it.

    The size is `model.config.vocab_size` or else the number of rows of the embeddings. Embeddings are `nn.Embedding`
    and other modules with "embedding" in their class name and a two-dimensional `weight`, and two-dimensional
    parameters with "embedding" in their own name. Position embeddings (with "pos" or "wpe" in the name) do not count.
    The largest of several embeddings counts, so that no readable data are refused.
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
