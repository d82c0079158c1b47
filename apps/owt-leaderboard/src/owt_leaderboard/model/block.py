"""The speedrun's block: a pre-norm Transformer block whose attention may get value embeddings."""

import torch
from torch import Tensor, nn

from nnscratch import RotaryEmbedding, TransformerBlock
from nnscratch.generation.cache import LayerCache
from owt_leaderboard.model.config import SpeedrunConfig


class ValueGate(nn.Module):
    """Weighs each head's part of a value embedding by 2 · sigmoid(W h), with h the first channels of the block's input.

    `weight` is (num_heads, gate_channels) and starts at zero, where every gate is 1. The gate is nanochat's; its input
    is normalised, so that it does not depend on how far the residual stream has grown.
    """

    def __init__(
        self,
        num_heads: int,
        gate_channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_heads, gate_channels, device=device, dtype=dtype))

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        """Return the weighed values.

        Args:
            x: the normalised input of the block, (..., d_model).
            values: the value embeddings of its tokens, (..., d_model), the heads side by side.
        """
        num_heads, channels = self.weight.shape
        gates = 2 * torch.sigmoid(x[..., :channels] @ self.weight.T)
        return (gates.unsqueeze(-1) * values.unflatten(-1, (num_heads, -1))).flatten(-2)


class SpeedrunBlock(TransformerBlock):
    """`nnscratch.TransformerBlock` with pre-norm, with value embeddings and zero-initialised projections as options.

    - Value embeddings (modded-nanogpt's records 14 to 17, after the value residuals of Zhou et al. 2024, ResFormer):
      values become W_v h + gate · e, with e the vector that a table of this block's own has for the token. Sharing
      tables among blocks is what modded-nanogpt does; nanochat, as here, has one for each block with a gate.
    - Zero-initialised projections (modded-nanogpt's record 5, muP-like; Zhang et al. 2019, Fixup): attention's
      `output_proj` and the feed-forward network's `w2` start at zero, so a new block returns its input. What is before
      them has a gradient of zero in the first step and learns from the second on.

    Args:
        config: the architecture.
        rope: the rotary embedding, which the blocks share.
        has_value_gate: whether the block gets value embeddings.
        device: where the parameters live.
        dtype: their type.
    """

    def __init__(
        self,
        config: SpeedrunConfig,
        rope: RotaryEmbedding,
        has_value_gate: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config.transformer, rope, device, dtype)
        self.value_gate = ValueGate(config.num_heads, config.gate_channels, device, dtype) if has_value_gate else None
        if config.zero_init_projections:
            with torch.no_grad():
                for name in ("attn.output_proj.weight", "ffn.w2.weight"):
                    self.get_parameter(name).zero_()

    def forward(
        self,
        x: Tensor,
        token_positions: Tensor | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
        value_embeddings: Tensor | None = None,
    ) -> Tensor:
        """Return the residual stream after the block.

        Args:
            x: the residual stream, (batch, seq, d_model).
            token_positions: as `nnscratch.CausalSelfAttention` explains, and so are `cache` and `mask`.
            cache: keys and values of earlier positions.
            mask: what may attend to what.
            value_embeddings: the vectors of the tokens at these positions, (batch, seq, d_model).

        Raises:
            ValueError: if value embeddings come without a gate for them, or the other way round.
        """
        if (value_embeddings is None) != (self.value_gate is None):
            raise ValueError(
                f"value_embeddings are {'missing' if value_embeddings is None else 'given'}, but the block has "
                f"{'a' if self.value_gate else 'no'} gate for them; pass them to the config's value_embedding_layers"
            )
        normal = self.ln1(x)
        if value_embeddings is not None and self.value_gate is not None:
            value_embeddings = self.value_gate(normal, value_embeddings)
        x = x + self.attn(normal, token_positions, cache, mask, value_embeddings)
        return x + self.ffn(self.ln2(x))
