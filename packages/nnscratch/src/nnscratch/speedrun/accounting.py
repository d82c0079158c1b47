"""Parameters and floating-point operations of a speedrun model, computed from its config without torch."""

from nnscratch.accounting import flops_per_token as transformer_flops_per_token
from nnscratch.accounting import parameters_by_part
from nnscratch.accounting.parameters import ngram_table_rows
from nnscratch.speedrun.config import SpeedrunConfig


def parameters_by_group(config: SpeedrunConfig) -> dict[str, int]:
    """Return the number of parameters in each group of `SpeedrunLM.parameter_groups`.

    A tied output layer counts as an embedding.
    """
    parts = parameters_by_part(config)
    gated = len(config.value_embedding_layers)
    scales = config.num_skips + (config.num_layers if config.embedding_shortcut else 0) + config.backout
    scales += config.smear * (config.small_gate_channels + 1)
    tables = ngram_table_rows(config) * config.d_model
    gains = 0 if config.gainless_norms else parts["norms"] + (config.d_model if config.embedding_norm else 0)
    return {
        "matrices": parts["attention"] + parts["ffn"] + _gate_parameters(config),
        "embeddings": parts["embeddings"] + gated * config.vocab_size * config.d_model - tables,
        "tables": tables,
        "head": parts["lm_head"],
        "scalars": gains + scales,
    }


def computing_parameters(config: SpeedrunConfig) -> int:
    """Return the parameters of the matrices in the blocks and of the output layer; embeddings are only looked up."""
    parts = parameters_by_part(config)
    return parts["attention"] + parts["ffn"] + config.vocab_size * config.d_model


def flops_per_token(config: SpeedrunConfig, context_length: int | None = None, *, backward: bool = False) -> float:
    """Return the floating-point operations of all matrix products for one token.

    Counts what `nnscratch.flops_per_token` counts, plus the products of value and attention gates. Embedding lookups,
    sums and other elementwise operations are not counted.

    Args:
        config: The model.
        context_length: Tokens in a sequence; by default the config's.
        backward: Count the forward and the backward pass; a backward pass costs two forward passes.

    Raises:
        ValueError: If the length is below 1.
    """
    gates = 2 * _gate_parameters(config)
    transformer = transformer_flops_per_token(config, context_length, backward=backward)
    return transformer + (3 if backward else 1) * gates


def _gate_parameters(config: SpeedrunConfig) -> int:
    """Return the parameters of the gates in the blocks."""
    channels = len(config.value_embedding_layers) * config.gate_channels
    if config.attention_gates:
        channels += config.num_layers * config.small_gate_channels
    return config.num_heads * channels
