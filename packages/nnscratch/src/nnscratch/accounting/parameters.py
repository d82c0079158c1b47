"""Number of parameters of a model, in all and by part."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from nnscratch.config import TransformerConfig

FEED_FORWARD_MATRICES = {"swiglu": 3, "silu": 2, "relu_squared": 2}
"""Number of (d_model, d_ff) matrices in each kind of feed-forward network."""


@runtime_checkable
class HasParameters(Protocol):
    """Stand-in for `torch.nn.Module`, so that this module does not need torch."""

    def parameters(self) -> Iterable[Any]:
        """Return the parameters, with every shared parameter once."""


def norm_count(config: TransformerConfig) -> int:
    """Return the number of norms of width d_model; the norms of queries and keys are narrower and do not count."""
    return (0 if config.norm == "none" else 2 * config.num_layers) + config.has_final_norm


def ngram_table_rows(config: TransformerConfig) -> int:
    """Return the rows of all tables of n-grams."""
    return 0 if config.ngram_rows is None else len(config.ngrams) * config.ngram_rows


def parameters_by_part(config: TransformerConfig) -> dict[str, int]:
    """Return the number of parameters of each part: embeddings, attention, ffn, norms, lm_head.

    With tied embeddings the shared matrix counts as embeddings, and `lm_head` is 0. Tables of n-grams are embeddings.
    """
    width, layers = config.d_model, config.num_layers
    table = config.vocab_size * width
    q_width, kv_width = config.num_heads * config.d_k, config.kv_heads * config.d_k
    biases = q_width + 2 * kv_width if config.qkv_bias else 0
    qk_norms = 2 * config.d_k if config.qk_norm_scope == "head" else q_width + kv_width
    return {
        "embeddings": table + ngram_table_rows(config) * width,
        "attention": layers * (2 * (q_width + kv_width) * width + biases),
        "ffn": layers * FEED_FORWARD_MATRICES[config.ffn] * width * config.d_ff,
        "norms": norm_count(config) * width + (layers * qk_norms if config.qk_norm and config.qk_norm_gains else 0),
        "lm_head": 0 if config.tie_embeddings else table,
    }


def count_parameters(model: HasParameters | TransformerConfig) -> int:
    """Return the number of parameters of a module, or of the `TransformerLM` of a config; a shared one counts once."""
    if isinstance(model, TransformerConfig):
        return sum(parameters_by_part(model).values())
    return sum(param.numel() for param in model.parameters())
