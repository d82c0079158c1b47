"""Every problem of the CS336 handout in its own words: slow, obvious, and with shapes. Read this file first.

The functions take weights as arguments and keep no state. Autograd gives their gradients. The rest of the package
computes the same faster, and is tested against this module; each section names the code that does.
Not in the handout are `ngram_embedding`, `frequent_ngrams` and `attention_mask`.

B is the batch size, T the number of positions, D the width (d_model), F the width inside feed-forward networks, H the
number of heads, d = D / H, and V the size of the vocabulary.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nnscratch.config import TransformerConfig

Weights = Mapping[str, Tensor]
"""Tensors by name, as in the state dict of `TransformerLM`."""


# Layers: `nnscratch.layers`, `nnscratch.functional`


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return y = x Wᵀ: (..., d_in) and (d_out, d_in) to (..., d_out)."""
    return torch.einsum("...i,oi->...o", x, weight)


def embedding(token_ids: Tensor, weight: Tensor) -> Tensor:
    """Return the row of each id: (...) ids and (V, D) to (..., D)."""
    return weight[token_ids]


def ngram_embedding(token_ids: Tensor, weight: Tensor, n: int) -> Tensor:
    """Return the row of the n tokens that end at each position: (B, T) ids and (rows, D) to (B, T, D)."""
    hashed = torch.zeros_like(token_ids)
    for back in reversed(range(n)):  # the oldest token first
        hashed = (hashed + token_ids.roll(back, dims=-1) + 1) * 2_654_435_761 // 2**16 % 2**31
    rows = 1 + hashed % (weight.shape[0] - 1)
    rows[..., : n - 1] = 0  # too few tokens before
    return weight[rows]


def frequent_ngrams(token_ids: Sequence[int], n: int, min_count: int, most: int) -> dict[tuple[int, ...], int]:
    """Return the rows, from 1 on, of the n-grams that occur `min_count` times or more, of at most so many.

    All others have row 0. The most frequent have rows, which are in the order of their ids.
    """
    counts = Counter(tuple(token_ids[start : start + n]) for start in range(len(token_ids) - n + 1))
    frequent = sorted(ngram for ngram, count in counts.items() if count >= min_count)
    kept = sorted(frequent, key=lambda ngram: -counts[ngram])[:most]
    return {ngram: row for row, ngram in enumerate(sorted(kept), 1)}


def rms_norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) · gain over the last dimension (Zhang and Sennrich 2019, equation 4)."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # x² overflows in float16
    rms = torch.sqrt((wide**2).mean(dim=-1, keepdim=True) + eps)
    return (wide / rms * gain).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """Return x · sigmoid(x)."""
    return x * torch.sigmoid(x)


def swiglu(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
    """Return W2 (silu(W1 x) · W3 x): (..., D) to (..., D); W1 and W3 are (F, D), W2 is (D, F) (Shazeer 2020)."""
    return linear(silu(linear(x, w1)) * linear(x, w3), w2)


def rotate(x: Tensor, positions: Tensor, theta: float = 10_000.0) -> Tensor:
    """Rotate each pair (x[2k], x[2k+1]) by the angle position / theta^(2k / d) (RoPE, Su et al. 2021, equation 34).

    Args:
        x: (..., T, d) queries or keys.
        positions: (..., T) integers.
        theta: Base of the wavelengths.
    """
    d = x.shape[-1]
    frequencies = theta ** (-torch.arange(0, d, 2) / d)  # (d / 2)
    angles = positions[..., None] * frequencies  # (..., T, d / 2)
    even, odd = x[..., 0::2], x[..., 1::2]
    rotated = torch.empty_like(x)
    rotated[..., 0::2] = even * torch.cos(angles) - odd * torch.sin(angles)
    rotated[..., 1::2] = even * torch.sin(angles) + odd * torch.cos(angles)
    return rotated


# Attention: `nnscratch.attention`, `nnscratch.attention_kernels`


def softmax(x: Tensor, dim: int) -> Tensor:
    """Return exp(x) / sum(exp(x)) along a dimension; the maximum is subtracted, so that no exponential overflows."""
    exponentials = torch.exp(x - x.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q kᵀ / sqrt(d)) v (Vaswani et al. 2017, equation 1).

    Args:
        q: (..., queries, d).
        k: (..., keys, d).
        v: (..., keys, d_v).
        mask: (..., queries, keys) booleans, True where a query may attend to a key.
    """
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (..., queries, keys)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return softmax(scores, dim=-1) @ v


def attention_mask(token_ids: Tensor, window: int, separator: int) -> Tensor:
    """Return which positions each one attends to: (B, T) ids to (B, T, T) booleans.

    It attends to itself and `window` - 1 before it, but not to what precedes the last `separator`, where its document
    begins.
    """
    positions = torch.arange(token_ids.shape[-1])
    starts = torch.where(token_ids == separator, positions, 0).cummax(dim=-1).values  # (B, T), of the documents
    first_keys = torch.maximum(starts, positions - window + 1)
    return (positions[:, None] >= positions) & (positions >= first_keys[..., None])


def self_attention(x: Tensor, weights: Weights, num_heads: int, theta: float | None = 10_000.0) -> Tensor:
    """Return causal multi-head self-attention of (B, T, D), with RoPE unless `theta` is None.

    Args:
        x: The input.
        weights: `q_proj.weight` (H d, D), `k_proj.weight` and `v_proj.weight` (K d, D), `output_proj.weight` (D, H d).
        num_heads: Number H of query heads, each with d adjacent columns; H / K of them share a head of keys and values.
        theta: Base of RoPE's wavelengths.
    """
    positions = torch.arange(x.shape[-2])
    projected = (linear(x, weights[f"{name}_proj.weight"]) for name in "qkv")
    d = weights["q_proj.weight"].shape[0] // num_heads
    q, k, v = (y.unflatten(-1, (-1, d)).transpose(-3, -2) for y in projected)  # (B, H, T, d) and twice (B, K, T, d)
    if theta is not None:
        q, k = rotate(q, positions, theta), rotate(k, positions, theta)
    k, v = (y.repeat_interleave(num_heads // y.shape[-3], dim=-3) for y in (k, v))  # (B, H, T, d)
    causal = positions[:, None] >= positions  # (T, T): a position sees itself and those before it
    heads = attention(q, k, v, causal)
    return linear(heads.transpose(-3, -2).flatten(-2), weights["output_proj.weight"])


# The model: `nnscratch.transformer`


def transformer_block(x: Tensor, weights: Weights, config: TransformerConfig) -> Tensor:
    """Return a pre-norm block (Xiong et al. 2020) of (B, T, D): x + attention(norm(x)), then x + swiglu(norm(x))."""
    theta = config.rope_theta if config.position == "rope" else None
    normal = rms_norm(x, weights["ln1.weight"], config.norm_eps)
    x = x + self_attention(normal, _under("attn", weights), config.num_heads, theta)
    normal = rms_norm(x, weights["ln2.weight"], config.norm_eps)
    return x + swiglu(normal, *(weights[f"ffn.{name}.weight"] for name in ("w1", "w2", "w3")))


def transformer_lm(token_ids: Tensor, weights: Weights, config: TransformerConfig) -> Tensor:
    """Return the logits of every next token: (B, T) ids to (B, T, V)."""
    x = embedding(token_ids, weights["token_embeddings.weight"])
    for layer in range(config.num_layers):
        x = transformer_block(x, _under(f"layers.{layer}", weights), config)
    return linear(rms_norm(x, weights["ln_final.weight"], config.norm_eps), weights["lm_head.weight"])


def _under(prefix: str, weights: Weights) -> Weights:
    """Return the weights whose names begin with a prefix, without it."""
    return {name[len(prefix) + 1 :]: weight for name, weight in weights.items() if name.startswith(f"{prefix}.")}


# Losses: `nnscratch.losses`


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the mean of -log softmax(logits)[target] in nats: (..., V) and (...) to a scalar; some may not count."""
    logits, targets = logits[targets != ignore_index], targets[targets != ignore_index]  # (n, V) and (n)
    shifted = logits - logits.amax(-1, keepdim=True)
    log_probabilities = shifted - torch.log(torch.exp(shifted).sum(-1, keepdim=True))
    return -log_probabilities[torch.arange(len(targets)), targets].mean()


def perplexity(loss: Tensor) -> Tensor:
    """Return exp of a mean cross-entropy in nats."""
    return torch.exp(loss)


# Training: `nnscratch.optimizers`


def sgd(param: Tensor, grad: Tensor, t: int, lr: float) -> Tensor:
    """Return a parameter after step t, from 0: param - lr / sqrt(t + 1) · grad."""
    return param - lr / math.sqrt(t + 1) * grad


def adamw(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a parameter and its moments after step t, from 1 (Loshchilov and Hutter 2019, algorithm 2).

    Args:
        param: The parameter.
        grad: Its gradient.
        m: Running mean of the gradient, 0 before the first step.
        v: Running mean of the squared gradient, 0 before the first step.
        t: Number of the step.
        lr: Learning rate.
        betas: Decay rates of m and v.
        eps: Added to the root mean square.
        weight_decay: Fraction by which the parameter shrinks, per unit of `lr`.
    """
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    unbiased_m, unbiased_v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    param = param - lr * weight_decay * param
    return param - lr * unbiased_m / (torch.sqrt(unbiased_v) + eps), m, v


def cosine_schedule(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, decay_steps: int) -> float:
    """Return the learning rate: up in a line, down along half a cosine, then constant."""
    if step < warmup_steps:
        return step / warmup_steps * max_lr
    if step > decay_steps:
        return min_lr
    progress = (step - warmup_steps) / (decay_steps - warmup_steps)
    return min_lr + (1 + math.cos(math.pi * progress)) / 2 * (max_lr - min_lr)


def clip_gradients(grads: Sequence[Tensor], max_norm: float, eps: float = 1e-6) -> list[Tensor]:
    """Return gradients whose joint L2 norm is at most `max_norm` (Pascanu et al. 2013)."""
    norm = math.sqrt(sum(float((grad**2).sum()) for grad in grads))
    factor = min(1.0, max_norm / (norm + eps))
    return [grad * factor for grad in grads]


# Decoding: `nnscratch.generation`


def next_token_probabilities(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Return softmax(logits / temperature), (V), restricted to the smallest set of tokens with a total of `top_p`."""
    probabilities = softmax(logits / temperature, dim=-1)
    ordered, ids = probabilities.sort(descending=True, stable=True)
    kept = ordered.cumsum(0) - ordered < top_p  # the tokens before this one have less than top_p in all
    restricted = torch.zeros_like(probabilities)
    restricted[ids[kept]] = ordered[kept]
    return restricted / restricted.sum()
