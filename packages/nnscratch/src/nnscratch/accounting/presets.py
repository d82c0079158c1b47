"""Configs of the four GPT-2 sizes for which the assignment asks, and its long context."""

from nnscratch.config import TransformerConfig


def _gpt2(num_layers: int, d_model: int, num_heads: int) -> TransformerConfig:
    return TransformerConfig(50_257, 1_024, d_model, num_layers, num_heads, 4 * d_model)


GPT2 = {
    "gpt2-small": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1_024, 16),
    "gpt2-large": _gpt2(36, 1_280, 20),
    "gpt2-xl": _gpt2(48, 1_600, 25),
}
"""Layers, widths and heads of Radford et al. 2019. The gated feed-forward network, here with d_ff = 4 · d_model, and
the separate output layer make these models larger than the published ones."""

LONG_CONTEXT = 16_384
"""Context length for which the assignment asks again for the share of each part in the FLOPs."""
