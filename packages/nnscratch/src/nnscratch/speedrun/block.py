"""Pre-norm Transformer block with optional value embeddings and zero-initialised projections."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.cache import LayerCache
from nnscratch.functional import dropout
from nnscratch.rotary_embedding import RotaryEmbedding
from nnscratch.speedrun.config import SpeedrunConfig
from nnscratch.transformer import TransformerBlock


class HeadGates(nn.Module):
    """Gate 2 · sigmoid(W h) of each head, with h the first channels of the block's input.

    `weight` is (num_heads, channels) and starts at zero, where every gate is 1. The gate is that of nanochat's value
    embeddings. Its input is normalised, so it does not depend on how far the residual stream has grown.
    """

    def __init__(
        self,
        num_heads: int,
        channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_heads, channels, device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... num_heads"]:
        """Return the gates for the normalised input of the block."""
        return 2 * torch.sigmoid(x[..., : self.weight.shape[1]] @ self.weight.T)


class SpeedrunBlock(TransformerBlock):
    """`nnscratch.TransformerBlock` with pre-norm, plus three options.

    - Value embeddings (modded-nanogpt's records 14 to 17, after the value residuals of Zhou et al. 2024, ResFormer):
      values become W_v h + gate · e, where e is the token's row in a table that belongs to this block. modded-nanogpt
      shares tables among blocks; nanochat, as here, has one table per gated block.
    - Attention gates (modded-nanogpt's sparse attention gate; head-specific gating of Qiu et al. 2025, arXiv
      2505.06708): what a head has gathered is multiplied by a gate before `output_proj`. The record's gates are
      sigmoids, which start at 1/2; these start at 1, so that a new block is the one without them.
    - Zero-initialised projections (modded-nanogpt's record 5, muP-like; Zhang et al. 2019, Fixup): attention's
      `output_proj` and the feed-forward network's `w2` start at zero, so a new block returns its input. Everything
      before them has a zero gradient in the first step and learns from the second step on.

    Args:
        config: The architecture.
        rope: Rotary embedding, shared among the blocks.
        has_value_gate: Whether the block receives value embeddings.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
    """

    def __init__(
        self,
        config: SpeedrunConfig,
        rope: RotaryEmbedding,
        has_value_gate: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config, rope, device, dtype)
        self.value_gate = HeadGates(config.num_heads, config.gate_channels, device, dtype) if has_value_gate else None
        self.attn_gate = None
        if config.attention_gates:
            self.attn_gate = HeadGates(config.num_heads, config.small_gate_channels, device, dtype)
        if config.zero_init_projections:
            with torch.no_grad():
                for name in ("attn.output_proj.weight", "ffn.w2.weight"):
                    self.get_parameter(name).zero_()

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        token_positions: Int[Tensor, "batch seq"] | None = None,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "*#mask seq keys"] | None = None,
        value_embeddings: Float[Tensor, "batch seq d_model"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the residual stream after the block.

        Args:
            x: Residual stream.
            token_positions: Positions of the tokens, as in `nnscratch.CausalSelfAttention`.
            cache: Keys and values of earlier positions.
            mask: Mask of the keys that each query may attend to.
            value_embeddings: Value embeddings of the tokens.

        Raises:
            ValueError: If value embeddings come without a gate for them, or the other way round.
        """
        if (value_embeddings is None) != (self.value_gate is None):
            raise ValueError(
                f"value_embeddings are {'missing' if value_embeddings is None else 'given'}, but the block has "
                f"{'a' if self.value_gate else 'no'} gate for them; pass them to the config's value_embedding_layers"
            )
        normal = self.ln1(x)
        if value_embeddings is not None and self.value_gate is not None:
            gates = self.value_gate(normal)
            values = value_embeddings.unflatten(-1, (gates.shape[-1], -1))
            value_embeddings = (gates.unsqueeze(-1) * values).flatten(-2)
        head_gates = None if self.attn_gate is None else self.attn_gate(normal)
        attended = self.attn(normal, token_positions, cache, mask, value_embeddings, head_gates=head_gates)
        x = x + dropout(attended, self.dropout, self.training)
        return x + dropout(self.ffn(self.ln2(x)), self.dropout, self.training)
