"""Transformer block and Transformer language model, with loading and saving."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnscratch.attention import CausalSelfAttention
from nnscratch.attention_kernels import causal_attention
from nnscratch.cache import KeyValueCache, LayerCache
from nnscratch.config import TransformerConfig
from nnscratch.functional import dropout
from nnscratch.interchange import load_untied, read_huggingface, read_pretrained, untied_state, write_pretrained
from nnscratch.language_model import LanguageModel
from nnscratch.layers import (
    Embedding,
    Linear,
    NGramEmbeddings,
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
    return RotaryEmbedding(config.rope_theta, config.d_k, config.context_length, device, scaling=config.rope_scaling)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward network, each with a residual connection.

    With norm "pre", x + f(norm(x)) (Xiong et al. 2020), plainly: `nnscratch.reference.transformer_block`; "post",
    norm(x + f(x)) (Vaswani et al. 2017); "reordered", x + norm(f(x)) (OLMo et al. 2025, section 3.2); "none", x + f(x).

    Args:
        config: The architecture.
        rope: Rotary embedding to share with other blocks; by default the block makes its own if it needs one.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
        layer: Index of the block, for the fields of the config about some layers.
        attend: Attention function, as in `CausalSelfAttention`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        rope: RotaryEmbedding | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer: int = 0,
        attend: Callable[..., Tensor] = causal_attention,
    ) -> None:
        super().__init__()
        if not config.has_rope(layer):
            rope = None
        elif rope is None:
            rope = _rotary_embedding(config, device)
        self.norm = config.norm
        self.dropout = config.dropout
        self.attn = CausalSelfAttention(
            config.d_model,
            config.num_heads,
            rope,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            qkv_bias=config.qkv_bias,
            qk_norm=config.qk_norm,
            qk_norm_scope=config.qk_norm_scope,
            qk_norm_gains=config.qk_norm_gains,
            norm_eps=config.norm_eps,
            window=config.window_of(layer),
            attend=attend,
            dropout=config.attention_dropout,
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
        first_keys: Int[Tensor, "*#batch seq"] | None = None,
    ) -> Float[Tensor, "*batch seq d_model"]:
        """Return the residual stream after the block; the arguments are those of `CausalSelfAttention`."""
        attn = partial(self.attn, token_positions=token_positions, cache=cache, mask=mask, first_keys=first_keys)
        drop = partial(dropout, p=self.dropout, training=self.training)
        if self.norm == "pre":
            x = x + drop(attn(self.ln1(x)))
            return x + drop(self.ffn(self.ln2(x)))
        if self.norm == "post":
            x = self.ln1(x + drop(attn(x)))
            return self.ln2(x + drop(self.ffn(x)))
        if self.norm == "reordered":
            x = x + drop(self.ln1(attn(x)))
            return x + drop(self.ln2(self.ffn(x)))
        x = x + drop(attn(x))
        return x + drop(self.ffn(x))


class TransformerLM(LanguageModel):
    """Decoder-only Transformer that computes a score for every next token at each position.

    `nnscratch.reference.transformer_lm` is the usual one in plain code.

    The tables of `ngram_rows` have sparse gradients, for which only `RowwiseAdagrad` is made:

        tables = list(model.ngram_embeddings.parameters())
        others = [param for name, param in model.named_parameters() if not name.startswith("ngram_embeddings.")]
        optimizer = CombinedOptimizer([AdamW(others), RowwiseAdagrad(tables)])

    With `ngram_min_count` no n-gram has a row before `model.ngram_embeddings.learn_ngrams(token_ids)`, with the ids of
    the training text.

    Args:
        config: The architecture.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
        attend: Attention function, as in `CausalSelfAttention`.
    """

    config: TransformerConfig
    model_type: str | None = None
    """Name in transformers of the family that `import_huggingface` found, such as "mistral"; exports return to it."""
    checkpoint_blocks: bool = False
    """Keep only the input of each block for the backward pass, which computes the block again (Chen et al. 2016)."""

    def __init__(
        self,
        config: TransformerConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        attend: Callable[..., Tensor] = causal_attention,
    ) -> None:
        super().__init__()
        self.config = config
        rope = _rotary_embedding(config, device)
        # A tied matrix is an output layer too: with an embedding's usual variance of 1 logits would have variance
        # d_model.
        std = config.d_model**-0.5 if config.tie_embeddings else 1.0
        self.token_embeddings = Embedding(config.vocab_size, config.d_model, device, dtype, std=std)
        if config.ngram_rows is not None:
            self.ngram_embeddings = NGramEmbeddings(
                config.ngrams,
                config.ngram_rows,
                config.d_model,
                device,
                dtype,
                dropout=config.ngram_dropout,
                min_count=config.ngram_min_count,
                vocab_size=config.vocab_size,
            )
        self.layers = nn.ModuleList(
            TransformerBlock(config, rope, device, dtype, layer=layer, attend=attend)
            for layer in range(config.num_layers)
        )
        if config.has_final_norm:
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
        first_keys = None
        if self.config.document_separator is not None:
            first_keys = _document_starts(token_ids, self.config.document_separator, cache)
        x = self.token_embeddings(token_ids)
        if self.config.ngram_rows is not None:
            x = self._add_ngrams(x, token_ids, token_positions, first_keys, cache)
        x = dropout(x, self.config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            if self.checkpoint_blocks and cache is None and torch.is_grad_enabled():
                x = checkpoint(layer, x, token_positions, None, mask, first_keys, use_reentrant=False)
                continue
            x = layer(x, token_positions, None if cache is None else cache.layers[index], mask, first_keys)
        return self.ln_final(x) if self.config.has_final_norm else x

    def _add_ngrams(
        self,
        x: Float[Tensor, "batch seq d_model"],
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None,
        first_keys: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return x plus the vectors of the n-grams that end at each position and lie in its document."""
        positions = token_positions
        if first_keys is not None:
            start = 0 if cache is None else cache.length
            columns = torch.arange(start, start + token_ids.shape[1], device=token_ids.device)
            in_document = columns - first_keys
            positions = in_document if positions is None else torch.minimum(positions, in_document)
        return x + self.ngram_embeddings(token_ids, positions, cache)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a directory, which is created if necessary."""
        write_pretrained(Path(directory), self.config.to_dict(), untied_state(self, self.config.tie_embeddings))

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: torch.device | str = "cpu") -> "TransformerLM":
        """Load a model that `save_pretrained` wrote, each parameter in the dtype in which it was saved.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the files are damaged or do not belong together.
        """
        values, weights = read_pretrained(Path(directory))
        return cls._from_weights(TransformerConfig.from_dict(values), weights, device)

    @classmethod
    def _from_weights(
        cls, config: TransformerConfig, weights: Mapping[str, Tensor], device: torch.device | str
    ) -> "TransformerLM":
        """Build a model around weights, of which a tied output layer may be missing."""
        model = cls(config, device=device, dtype=next(iter(weights.values())).dtype)
        load_untied(model, weights, config.tie_embeddings)
        return model


def _document_starts(
    token_ids: Int[Tensor, "batch seq"], separator: int, cache: KeyValueCache | None
) -> Int[Tensor, "batch seq"]:
    """Return the position at which the document of each token begins, counted from the first position in the cache."""
    start = 0 if cache is None else cache.length
    positions = torch.arange(start, start + token_ids.shape[1], device=token_ids.device)
    starts = torch.where(token_ids == separator, positions, 0).cummax(dim=-1).values
    if cache is not None and token_ids.shape[1] > 0:
        if start > 0 and cache.document_starts is not None:
            starts = torch.maximum(starts, cache.document_starts.unsqueeze(-1))
        cache.document_starts = starts[:, -1]
    return starts


def import_huggingface(directory: str | Path, device: torch.device | str = "cpu") -> TransformerLM:
    """Load a published model from a directory that transformers, or `export_huggingface`, wrote.

    The families are Llama (2, 3, 3.1; TinyLlama and SmolLM 2 are Llamas), Mistral, Qwen 2, 2.5 and 3 (dense), SmolLM 3
    and OLMo 2.

    The files read are config.json and model.safetensors, or the shards listed in model.safetensors.index.json; never a
    pickle. Rows of the query and key projections return to the order of adjacent pairs.

    The model has the dtype of the weights, whatever config.json says. If they have several (say, float32 norms among
    bfloat16 matrices), it has the narrowest dtype that represents all of them exactly. `model.to(dtype)` changes it.

    Args:
        directory: A local directory.
        device: Device of the parameters.

    Raises:
        FileNotFoundError: If config.json, the weights or a shard is missing.
        ValueError: If a file is damaged; if the config asks for something that `TransformerConfig` cannot express,
            naming the field; if parameters are missing, unexpected, of the wrong shape or not floating point.
    """
    config, weights, model_type = read_huggingface(Path(directory), _parameter_shapes)
    model = TransformerLM._from_weights(config, weights, device)
    model.model_type = model_type
    return model


def _parameter_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a model, without allocating memory for it."""
    state = TransformerLM(config, device="meta").state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
