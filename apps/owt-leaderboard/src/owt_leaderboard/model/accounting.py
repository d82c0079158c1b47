"""Parameters and floating-point operations of a speedrun model, computed from its config and without torch."""

import nnscratch
from nnscratch.accounting import parameters_by_part
from owt_leaderboard.model.config import SpeedrunConfig


def parameters_by_group(config: SpeedrunConfig) -> dict[str, int]:
    """Return how many numbers are in each group of `SpeedrunLM.parameter_groups`; a tied matrix is an embedding."""
    parts = parameters_by_part(config.transformer)
    gated = len(config.value_embedding_layers)
    scales = config.num_skips + (2 * config.num_layers if config.embedding_shortcut else 0)
    gains = parts["norms"] + (config.d_model if config.embedding_norm else 0)
    return {
        "matrices": parts["attention"] + parts["ffn"] + gated * config.num_heads * config.gate_channels,
        "embeddings": parts["embeddings"] + (gated * config.vocab_size + config.bigram_rows) * config.d_model,
        "head": parts["lm_head"],
        "scalars": gains + scales,
    }


def flops_per_token(config: SpeedrunConfig, context_length: int | None = None, *, backward: bool = False) -> float:
    """Return the floating-point operations of all matrix products for one token.

    What `nnscratch.flops_per_token` counts, and the products of the value gates. Added embeddings are looked up; they,
    skip connections and shortcut are sums, which are not counted, like all that is computed number by number.

    Args:
        config: the model.
        context_length: tokens in a sequence; by default the config's.
        backward: count forward and backward pass; a backward pass is two forward passes.

    Raises:
        ValueError: if the length is below 1.
    """
    gates = len(config.value_embedding_layers) * 2 * config.num_heads * config.gate_channels
    transformer = nnscratch.flops_per_token(config.transformer, context_length, backward=backward)
    return transformer + (3 if backward else 1) * gates
