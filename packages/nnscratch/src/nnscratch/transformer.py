"""The Transformer language model and its block."""

from pathlib import Path
from typing import Self

from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch.attention import CausalSelfAttention
from nnscratch.cache import KeyValueCache, LayerCache
from nnscratch.config import TransformerConfig
from nnscratch.layers import Embedding, Linear, RMSNorm, RotaryEmbedding, SiLUFeedForward, SwiGLU
from nnscratch.linear_cross_entropy import linear_cross_entropy


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each with a residual connection, and norms where the configuration puts them.

    "pre": x + f(norm(x)); "post": norm(x + f(x)), as in Vaswani et al. (2017); "none": x + f(x).

    Args:
        config: the model's configuration.
        rope: shared by the model's blocks; by default the block makes its own if the configuration asks for RoPE.
    """

    def __init__(self, config: TransformerConfig, rope: RotaryEmbedding | None = None) -> None:
        super().__init__()
        if rope is None and config.position == "rope":
            rope = RotaryEmbedding(config.rope_theta, config.d_head, config.context_length)
        self.norm = config.norm
        if config.norm != "none":
            self.ln1 = RMSNorm(config.d_model, config.norm_eps)
        self.attn = CausalSelfAttention(config.d_model, config.num_heads, rope)
        if config.norm != "none":
            self.ln2 = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = (SwiGLU if config.ffn == "swiglu" else SiLUFeedForward)(config.d_model, config.d_ff)

    def forward(
        self,
        x: Float[Tensor, "*batch time d_model"],
        token_positions: Int[Tensor, "*#batch time"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "*batch time d_model"]:
        """Apply the block; arguments as those of `CausalSelfAttention`."""
        if self.norm == "pre":
            x = x + self.attn(self.ln1(x), token_positions, cache)
            return x + self.ffn(self.ln2(x))
        if self.norm == "post":
            x = self.ln1(x + self.attn(x, token_positions, cache))
            return self.ln2(x + self.ffn(x))
        x = x + self.attn(x, token_positions, cache)
        return x + self.ffn(x)


class TransformerLM(nn.Module):
    """A decoder-only Transformer: token ids in, logits for the next token out.

    With norm="pre" a last norm `ln_final` stands before the output; with "post" each block ends in a norm, so there is
    none more. With tied embeddings `lm_head.weight` is `token_embeddings.weight`, drawn with the head's deviation.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        rope = None
        if config.position == "rope":
            rope = RotaryEmbedding(config.rope_theta, config.d_head, config.context_length)
        self.token_embeddings = Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(TransformerBlock(config, rope) for _ in range(config.num_layers))
        if config.norm == "pre":
            self.ln_final = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_embeddings:
            self.token_embeddings.weight = self.lm_head.weight

    def hidden(
        self, token_ids: Int[Tensor, "batch time"], cache: KeyValueCache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """The vectors that the output matrix turns into logits.

        Raises:
            ValueError: more tokens than the context length, those in the cache included.
        """
        before = 0 if cache is None else cache.length
        if before + token_ids.shape[-1] > self.config.context_length:
            raise ValueError(
                f"got {before + token_ids.shape[-1]} tokens: expected at most context_length = "
                f"{self.config.context_length}; shorten the input"
            )
        x = self.token_embeddings(token_ids)
        for number, layer in enumerate(self.layers):
            x = layer(x, cache=None if cache is None else cache.layers[number])
        return self.ln_final(x) if self.config.norm == "pre" else x

    def forward(
        self, token_ids: Int[Tensor, "batch time"], cache: KeyValueCache | None = None
    ) -> Float[Tensor, "batch time vocab_size"]:
        """Logits of the token after each of the given ones; any length up to the context length.

        Args:
            token_ids: the tokens, or only the new ones if the earlier ones are in the cache.
            cache: keys and values of earlier tokens; those of the new ones are added to it.
        """
        return self.lm_head(self.hidden(token_ids, cache))

    def loss(self, inputs: Int[Tensor, "batch time"], targets: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Mean cross-entropy of the targets in nats, without ever holding all logits."""
        return linear_cross_entropy(self.hidden(inputs), self.lm_head.weight, targets)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a directory; each file appears whole or not at all."""
        from nnscratch.interchange.native import save

        save(self, Path(directory))

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> Self:
        """Read what `save_pretrained` wrote; ValueError or FileNotFoundError if that is not what is there."""
        from nnscratch.interchange.native import load

        return load(cls, Path(directory))
