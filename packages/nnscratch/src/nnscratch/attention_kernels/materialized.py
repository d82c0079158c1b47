"""Attention with all scores in memory: for any mask, and for a single query."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.autocast import at_least_float32, cast_for_autocast
from nnscratch.functional import dropout, softmax

_SCORES_AT_ONCE = 2**24


def materialized_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*kv_batch keys d_k"],
    v: Float[Tensor, "*kv_batch keys d_v"],
    mask: Bool[Tensor, "*#mask queries keys"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v, where queries attend to the keys with a True in the mask.

    Keys and values may have fewer heads than queries, as in `causal_attention`. The softmax is computed in float32 at
    least. Without gradients the queries are processed in parts, so that only
    a part of the scores is in memory.
    """
    if torch.is_grad_enabled():
        return _attend(q, k, v, mask)
    rows = max(1, _SCORES_AT_ONCE // max(1, q.shape[:-2].numel() * k.shape[-2]))
    if rows >= q.shape[-2]:
        return _attend(q, k, v, mask)
    parts = []
    for start in range(0, q.shape[-2], rows):
        part_mask = None if mask is None else mask[..., start : start + rows, :]
        parts.append(_attend(q[..., start : start + rows, :], k, v, part_mask))
    return torch.cat(parts, dim=-2)


def single_query_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*kv_batch keys d_k"],
    v: Float[Tensor, "*kv_batch keys d_v"],
    first_keys: Int[Tensor, "sequences queries"],
) -> Float[Tensor, "*batch queries d_v"]:
    """Return the attention of at most one query to the keys from its entry of `first_keys` on.

    There is one row of first keys, or one for each sequence, where heads are the last batch dimension.
    """
    if first_keys.numel() == 0:
        return materialized_attention(q, k, v)
    if first_keys.device.type == "cpu" and not torch.compiler.is_compiling():
        # Elsewhere the number would have to be waited for, or is not known yet.
        begin = max(0, int(first_keys.min()))
        k, v = k[..., begin:, :], v[..., begin:, :]
        if len(first_keys) == 1:
            return materialized_attention(q, k, v)
        first_keys = first_keys - begin
    mask = torch.arange(k.shape[-2], device=k.device) >= first_keys
    return materialized_attention(q, k, v, mask if len(mask) == 1 else mask.view(*q.shape[:-3], 1, 1, k.shape[-2]))


def dropout_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*kv_batch keys d_k"],
    v: Float[Tensor, "*kv_batch keys d_v"],
    mask: Bool[Tensor, "*#mask queries keys"],
    p: float,
) -> Float[Tensor, "*batch queries d_v"]:
    """Return attention in which each weight is 0 with probability p and else divided by 1 - p, for training.

    The weights are kept for the backward pass, so memory is quadratic in the number of positions. A query that may
    attend to nothing gets zeros and no gradient.
    """
    group = q.shape[-3] // k.shape[-3]
    k, v = (tensor.repeat_interleave(group, dim=-3) for tensor in cast_for_autocast(k, v))
    (q,) = cast_for_autocast(q)
    if k.shape[-2] == 0:  # No maximum exists.
        return q @ k.mT @ v
    scores = (q @ k.mT).to(at_least_float32(q.dtype)) / math.sqrt(q.shape[-1])
    # Weights are 0 as with -inf, and also stay finite where a query, such as padding, attends to nothing.
    weights = softmax(scores.masked_fill(mask.logical_not(), torch.finfo(scores.dtype).min), dim=-1)
    output = dropout(weights, p, training=True).to(v.dtype) @ v
    return output.masked_fill(mask.any(-1, keepdim=True).logical_not(), 0)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Flatten the batch dimensions of the keys into one, join the queries that share a head of them, and attend."""
    batch, queries, heads = q.shape[:-2], q.shape[-2], math.prod(k.shape[:-2])
    group = math.prod(batch) // max(heads, 1)
    bias = None if mask is None else _bias(mask, at_least_float32(q.dtype))
    if bias is not None and bias.dim() > 2:
        bias = bias.expand(*batch, *bias.shape[-2:]).reshape(heads, group * queries, bias.shape[-1])
    elif bias is not None and group > 1:
        bias = bias.repeat(group, 1)
    q, k, v = cast_for_autocast(q, k, v)
    q = q.reshape(heads, group * queries, q.shape[-1])
    k, v = (tensor.reshape(heads, *tensor.shape[-2:]) for tensor in (k, v))
    if k.shape[-2] == 0:  # No maximum exists and nothing can be attended to: return zeros that have a gradient.
        output = q @ k.mT @ v
    else:
        attend = _Attention.apply if torch.is_grad_enabled() else lambda *inputs: _weighted_values(*inputs)[0]
        output = attend(q, k, v, bias)
    return output.view(*batch, queries, v.shape[-1])


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where the mask is True and -inf elsewhere, to be added to the scores."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(mask.logical_not(), -math.inf)


def _scores_for_exp2(q: Tensor, k: Tensor) -> Tensor:
    """Return log2(e) / sqrt(d_k) · q kᵀ in float32 at least, whose powers of two are the softmax's numerators."""
    scale_for_exp2 = math.log2(math.e) / math.sqrt(q.shape[-1])
    wide = at_least_float32(q.dtype)
    if q.dtype == wide:
        return torch.bmm(q * scale_for_exp2, k.mT)
    if q.dtype == torch.float16:
        # float16 ends at 65,504. A power of two keeps the products below that and rounds no query.
        power = 2.0 ** -math.ceil(math.log2(q.shape[-1]) / 2)
        return torch.bmm(q * power, k.mT).to(wide).mul_(scale_for_exp2 / power)
    return torch.bmm(q, k.mT).to(wide).mul_(scale_for_exp2)  # Scaling bfloat16 queries would round them once more.


def _weighted_values(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the attention output, the weights, and the factor by which outputs still had to be multiplied.

    The scores are the largest tensor, so they are overwritten in place. The weights are the softmax's numerators, and
    the sums divide the outputs, which are fewer. In float16 the sum of many values would overflow: there the weights
    are divided, and the factor is 1.
    """
    scores = _scores_for_exp2(q, k)
    if bias is not None:
        scores.add_(bias)
    maxima = scores.amax(-1, keepdim=True)
    if bias is not None:  # Without a key to attend to, it is -inf. A finite maximum makes weights 0 instead of nan.
        maxima.clamp_(min=torch.finfo(scores.dtype).min)
    weights = scores.sub_(maxima).exp2_()
    inverse = weights.sum(-1, keepdim=True).reciprocal_()
    if bias is not None:
        inverse.nan_to_num_(posinf=0.0)
    if q.dtype == torch.float16:
        weights.mul_(inverse)
        inverse = torch.ones_like(inverse)
    weights = weights.to(v.dtype)
    return (torch.bmm(weights, v) * inverse).to(v.dtype), weights, inverse


class _Attention(torch.autograd.Function):
    """Attention for q, k, v of shape (batch, positions, features); backward as in Dao et al. 2022, appendix B.2."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        output, weights, inverse = _weighted_values(q, k, v, bias)
        ctx.save_for_backward(q, k, v, weights, inverse, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, inverse, output = ctx.saved_tensors
        (grad,) = grad_outputs
        scale = 1 / math.sqrt(q.shape[-1])
        grad = grad * inverse
        row_sums = (grad * output).sum(-1, keepdim=True).to(v.dtype)
        grad = grad.to(v.dtype)
        v_grad = torch.bmm(weights.mT, grad)
        score_grad = torch.bmm(grad, v.mT).sub_(row_sums).mul_(weights)
        q_grad = torch.bmm(score_grad, k).mul_(scale)
        k_grad = torch.bmm(score_grad.mT, q).mul_(scale)
        return q_grad, k_grad, v_grad, None
