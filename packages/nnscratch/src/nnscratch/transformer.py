"""The Transformer block and the Transformer language model."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.attention import CausalSelfAttention
from nnscratch.config import TransformerConfig
from nnscratch.generation.cache import KeyValueCache, LayerCache
from nnscratch.language_model import LanguageModel
from nnscratch.layers import (
    Embedding,
    Linear,
    ReLUSquaredFeedForward,
    RMSNorm,
    SiLUFeedForward,
    SwiGLU,
)
from nnscratch.rotary_embedding import RotaryEmbedding

_FEED_FORWARD = {"swiglu": SwiGLU, "silu": SiLUFeedForward, "relu_squared": ReLUSquaredFeedForward}


def _rotary_embedding(config: TransformerConfig, device: torch.device | str | None) -> RotaryEmbedding | None:
    if config.position == "none":
        return None
    return RotaryEmbedding(config.rope_theta, config.head_size, config.context_length, device)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward network, each added to what came in.

    With norm "pre", x + f(norm(x)) (Xiong et al. 2020); "post", norm(x + f(x)) (Vaswani et al. 2017); "none", x + f(x).

    Args:
        config: the architecture.
        rope: the rotary embedding to share with other blocks; by default the block makes its own, if it needs one.
        device: where the parameters live.
        dtype: their type.
    """

    def __init__(
        self,
        config: TransformerConfig,
        rope: RotaryEmbedding | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if config.position == "rope" and rope is None:
            rope = _rotary_embedding(config, device)
        self.norm = config.norm
        self.attn = CausalSelfAttention(
            config.d_model,
            config.num_heads,
            rope,
            qk_norm=config.qk_norm,
            norm_eps=config.norm_eps,
            device=device,
            dtype=dtype,
        )
        self.ffn = _FEED_FORWARD[config.ffn](config.d_model, config.d_ff, device, dtype)
        if config.norm != "none":
            self.ln1 = RMSNorm(config.d_model, config.norm_eps, device, dtype)
            self.ln2 = RMSNorm(config.d_model, config.norm_eps, device, dtype)

    def forward(
        self,
        x: Float[Tensor, "*batch seq d_model"],
        token_positions: Int[Tensor, "*#positions seq"] | None = None,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "*#mask seq keys"] | None = None,
    ) -> Float[Tensor, "*batch seq d_model"]:
        """Return the residual stream after the block; `CausalSelfAttention` explains the arguments."""
        if self.norm == "pre":
            x = x + self.attn(self.ln1(x), token_positions, cache, mask)
            return x + self.ffn(self.ln2(x))
        if self.norm == "post":
            x = self.ln1(x + self.attn(x, token_positions, cache, mask))
            return self.ln2(x + self.ffn(x))
        x = x + self.attn(x, token_positions, cache, mask)
        return x + self.ffn(x)


class TransformerLM(LanguageModel):
    """A decoder-only Transformer that gives each position a score for every next token.

    Args:
        config: the architecture.
        device: where the parameters live.
        dtype: their type.
    """

    config: TransformerConfig

    def __init__(
        self,
        config: TransformerConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        rope = _rotary_embedding(config, device)
        # A tied matrix is an output layer too: with the embedding's usual variance of 1 logits would have d_model.
        std = config.d_model**-0.5 if config.tie_embeddings else 1.0
        self.token_embeddings = Embedding(config.vocab_size, config.d_model, device, dtype, std=std)
        self.layers = nn.ModuleList(TransformerBlock(config, rope, device, dtype) for _ in range(config.num_layers))
        if config.norm == "pre":
            self.ln_final = RMSNorm(config.d_model, config.norm_eps, device, dtype)
        self.lm_head = Linear(config.d_model, config.vocab_size, device, dtype)
        if config.tie_embeddings:
            self.lm_head.weight = self.token_embeddings.weight

    def _features(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
        mask: Bool[Tensor, "batch seq keys"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self.token_embeddings(token_ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, token_positions, None if cache is None else cache.layers[index], mask)
        return self.ln_final(x) if self.config.norm == "pre" else x

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a directory, which is made if need be."""
        from nnscratch.interchange.native import save_pretrained

        save_pretrained(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: torch.device | str = "cpu") -> "TransformerLM":
        """Return the model that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the files are damaged or do not belong together.
        """
        from nnscratch.interchange.native import load_pretrained

        return load_pretrained(directory, device)
