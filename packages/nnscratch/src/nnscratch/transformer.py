"""The Transformer block and the Transformer language model."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.attention import CausalSelfAttention
from nnscratch.cache import KeyValueCache, LayerCache
from nnscratch.config import TransformerConfig
from nnscratch.kernels.linear_cross_entropy import linear_cross_entropy
from nnscratch.layers import (
    Embedding,
    Linear,
    ReLUSquaredFeedForward,
    RMSNorm,
    RotaryEmbedding,
    SiLUFeedForward,
    SwiGLU,
)
from nnscratch.shapes import check_token_ids, shape_error

_FEED_FORWARD = {"swiglu": SwiGLU, "silu": SiLUFeedForward, "relu_squared": ReLUSquaredFeedForward}


def _rotary_embedding(config: TransformerConfig, device: torch.device | str | None) -> RotaryEmbedding | None:
    if config.position == "none":
        return None
    return RotaryEmbedding(config.rope_theta, config.head_size, config.context_length, device)


def _beside_padding(
    padding: Int[Tensor, "batch"], start: int, end: int
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq {end}"]]:
    """Return the positions of columns start … end in rows that begin with padding, and what they may attend to."""
    columns = torch.arange(end, device=padding.device)
    positions = (columns[start:] - padding.unsqueeze(-1)).clamp_(min=0)
    return positions, (columns >= padding[:, None, None]) & (columns <= columns[start:, None])


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


class TransformerLM(nn.Module):
    """A decoder-only Transformer that gives each position a score for every next token.

    Args:
        config: the architecture.
        device: where the parameters live.
        dtype: their type.
    """

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

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return what the output layer gets; `forward` explains the arguments.

        Raises:
            ValueError: if `token_ids` are not (batch, seq) integers, or with what the cache holds longer than
                `context_length`.
        """
        check_token_ids("token_ids", token_ids)
        if token_ids.dim() != 2:
            raise shape_error("token_ids", token_ids, "(batch, seq)")
        start = 0 if cache is None else cache.length
        length = start + token_ids.shape[1]
        if length > self.config.context_length:
            raise ValueError(
                f"an input of {length} tokens is longer than context_length={self.config.context_length}; "
                f"shorten it or build the model with a longer context"
            )
        positions, mask = None, None
        if padding is not None:
            positions, mask = _beside_padding(padding, start, length)
        x = self.token_embeddings(token_ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, positions, None if cache is None else cache.layers[index], mask)
        return self.ln_final(x) if self.config.norm == "pre" else x

    def forward(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq vocab_size"]:
        """Return the logits of the token after each position.

        Args:
            token_ids: at most `context_length` ids in each row.
            cache: earlier positions' keys and values; `token_ids` are taken to follow them, and are added to it.
            padding: how many ids at the start of each row, those in the cache included, only fill it up: nothing
                attends to them, and the row's positions start after them. What they give themselves is of no use.

        Raises:
            ValueError: if there are more than `context_length` positions.
        """
        return self._logits(self.hidden_states(token_ids, cache, padding))

    def next_token_logits(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch vocab_size"]:
        """Return the last position's logits, without those of the others; `forward` explains the arguments."""
        return self._logits(self.hidden_states(token_ids, cache, padding)[:, -1])

    def _logits(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab_size"]:
        logits = self.lm_head(hidden)
        cap = self.config.logit_soft_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def loss(self, inputs: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per target, without ever holding all logits.

        Args:
            inputs: token ids.
            targets: the id that follows each of them.

        Raises:
            ValueError: if the two differ in shape, or there are more than `context_length` positions.
        """
        if targets.shape != inputs.shape:
            raise shape_error("targets", targets, f"{tuple(inputs.shape)}, as inputs have")
        return linear_cross_entropy(
            self.hidden_states(inputs), self.lm_head.weight, targets, logit_soft_cap=self.config.logit_soft_cap
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a directory, which is made if need be."""
        from nnscratch.pretrained import save_pretrained

        save_pretrained(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: torch.device | str = "cpu") -> "TransformerLM":
        """Return the model that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the files are damaged or do not belong together.
        """
        from nnscratch.pretrained import load_pretrained

        return load_pretrained(directory, device)
