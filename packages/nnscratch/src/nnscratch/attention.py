"""Scaled dot-product attention and causal multi-head self-attention."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_last_dimension, shape_error
from nnscratch.attention_kernels.causal import causal_attention
from nnscratch.autocast import cast_for_autocast
from nnscratch.functional import at_least_float32
from nnscratch.generation.cache import LayerCache
from nnscratch.layers import Linear, RMSNorm
from nnscratch.rotary_embedding import RotaryEmbedding

_SCORES_AT_ONCE = 2**24


def _weighted_values(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return softmax(q kᵀ / sqrt(d_k) + bias) v, the softmax's numerators, and the inverse of its sums.

    The scores are the large tensor, so they are written in place, exponentials are powers of two (whose logarithm's
    factor goes into q for free), and the sums divide the outputs rather than the weights, except in float16: there the
    weights are divided, and the inverse that comes back is 1.
    """
    scale = math.log2(math.e) / math.sqrt(q.shape[-1])
    wide = at_least_float32(q.dtype)
    small_range = q.dtype == torch.float16  # which ends at 65,504
    if q.dtype == wide:
        scores = torch.bmm(q * scale, k.mT)
    elif small_range:  # a power of two keeps the products small and rounds no query
        power = 2.0 ** -math.ceil(math.log2(q.shape[-1]) / 2)
        scores = torch.bmm(q * power, k.mT).to(wide).mul_(scale / power)
    else:  # scaled queries would be rounded once more
        scores = torch.bmm(q, k.mT).to(wide).mul_(scale)
    if bias is not None:
        scores.add_(bias)
    # A row with nothing to attend to has maximum -inf: the finite one makes its weights 0 rather than nan.
    maxima = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(wide).min)
    weights = scores.sub_(maxima).exp2_()
    inverse = weights.sum(-1, keepdim=True).reciprocal_().nan_to_num_(posinf=0.0)
    if small_range:  # the sum of many values does not fit
        weights.mul_(inverse)
        inverse = torch.ones_like(inverse)
    weights = weights.to(v.dtype)
    return (torch.bmm(weights, v) * inverse).to(v.dtype), weights, inverse


class _Attention(torch.autograd.Function):
    """The above for q, k, v of (batch, positions, features); the backward pass is Dao et al. 2022, appendix B.2."""

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


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#mask queries keys"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v (Vaswani et al. 2017, equation 1).

    The softmax is computed in float32 at least. A query that may attend to nothing gets zeros and no gradient.
    There may be no queries, or no keys.

    Args:
        q: queries, with any batch dimensions.
        k: keys.
        v: values.
        mask: True where a query may attend to a key; its leading dimensions broadcast.

    Raises:
        ValueError: if the shapes do not belong together, or the mask is not boolean.
    """
    check_last_dimension("k", k, q.shape[-1], "d_k")
    if k.shape[:-2] != q.shape[:-2]:
        raise shape_error("k", k, f"{(*q.shape[:-2], 'keys', q.shape[-1])}, with the batch dimensions of q")
    if v.shape[:-1] != k.shape[:-1]:
        raise shape_error("v", v, f"{(*k.shape[:-1], 'd_v')}, a value for each key")
    if mask is not None:
        _check_mask(mask, q, k)
    if torch.is_grad_enabled():
        return _attend(q, k, v, _bias(mask, q))
    # Without a backward pass nothing needs the scores of all queries together.
    rows = max(1, _SCORES_AT_ONCE // max(1, q.shape[:-2].numel() * k.shape[-2]))
    if rows >= q.shape[-2]:
        return _attend(q, k, v, _bias(mask, q))
    parts = []
    for start in range(0, q.shape[-2], rows):
        part_mask = None if mask is None else mask[..., start : start + rows, :]
        parts.append(_attend(q[..., start : start + rows, :], k, v, _bias(part_mask, q)))
    return torch.cat(parts, dim=-2)


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is of {mask.dtype}: expected torch.bool, True where a query may attend to a key")
    expected = (*q.shape[:-1], k.shape[-2])
    sizes = zip(reversed(mask.shape[:-2]), reversed(expected[:-2]), strict=False)
    if mask.dim() > len(expected) or mask.shape[-2:] != expected[-2:] or any(a not in (1, b) for a, b in sizes):
        raise shape_error("mask", mask, f"{expected} or less before (queries, keys), which broadcasts")


def _bias(mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Return what is added to the scores of the queries: 0 where the mask is True, -inf elsewhere."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=at_least_float32(q.dtype), device=q.device)
    return bias.masked_fill_(mask.logical_not(), -math.inf)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend with any batch dimensions, which become one."""
    batch = q.shape[:-2]
    if bias is not None and bias.dim() > 2:
        bias = bias.expand(*batch, *bias.shape[-2:]).reshape(math.prod(batch), *bias.shape[-2:])
    q, k, v = cast_for_autocast(q, k, v)
    if k.shape[-2] == 0:  # there is no maximum, and nothing to attend to: the products are zeros with a gradient
        return q @ k.mT @ v
    q, k, v = (tensor.reshape(math.prod(batch), *tensor.shape[-2:]) for tensor in (q, k, v))
    attend = _Attention.apply if torch.is_grad_enabled() else lambda *inputs: _weighted_values(*inputs)[0]
    return attend(q, k, v, bias).view(*batch, q.shape[-2], v.shape[-1])


def _is_plain(module: nn.Module) -> bool:
    """Say whether calling the module is its weight's product with the input and nothing else, such as a hook."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return type(module) is Linear and not any(hooks)


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention in which a position sees itself and those before it (Vaswani et al. 2017, 3.2.2).

    Heads are d_model / num_heads wide and have no bias. The three projections are separate parameters, and one product
    of all positions as long as they are `Linear` itself and have no hooks.

    Args:
        d_model: width of the input and output.
        num_heads: number of heads.
        rope: turns queries and keys by their positions; None for no position information.
        qk_norm: normalise each head's queries and keys by RMSNorm before they are turned (Henry et al. 2020).
        norm_eps: the eps of these norms.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: if `num_heads` does not divide `d_model`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        rope: RotaryEmbedding | None = None,
        *,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ValueError(f"num_heads={num_heads!r} does not divide d_model={d_model!r}; choose a divisor of it")
        self.d_model = d_model
        self.num_heads = num_heads
        self.q_proj = Linear(d_model, d_model, device, dtype)
        self.k_proj = Linear(d_model, d_model, device, dtype)
        self.v_proj = Linear(d_model, d_model, device, dtype)
        self.output_proj = Linear(d_model, d_model, device, dtype)
        head_size = d_model // num_heads
        self.q_norm = RMSNorm(head_size, norm_eps, device, dtype) if qk_norm else None
        self.k_norm = RMSNorm(head_size, norm_eps, device, dtype) if qk_norm else None
        self.rope = rope

    def forward(
        self,
        x: Float[Tensor, "*batch seq d_model"],
        token_positions: Int[Tensor, "*#positions seq"] | None = None,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "*#mask seq keys"] | None = None,
        added_values: Float[Tensor, "*batch seq d_model"] | None = None,
    ) -> Float[Tensor, "*batch seq d_model"]:
        """Return what each position gathers from those up to it.

        Args:
            x: one vector per position.
            token_positions: positions for the rotary embedding; by default those that follow the cache's.
            cache: keys and values of earlier positions, to which these are appended.
            mask: True where a position may attend to one of all so far, instead of to itself and those before it.
            added_values: what is added to the values of the positions of `x`, the heads side by side.

        Raises:
            ValueError: if the shapes do not belong together, or the positions do not fit into the cache.
        """
        check_last_dimension("x", x, self.d_model, "d_model")
        if added_values is not None and added_values.shape != x.shape:
            raise shape_error("added_values", added_values, f"{tuple(x.shape)}, as x has")
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if cache is None and all(_is_plain(projection) for projection in projections):
            weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
            heads = (x @ weight.T).unflatten(-1, (3, self.num_heads, -1))
            q, k, v = (tensor.transpose(-3, -2) for tensor in heads.unbind(-3))
        else:  # for the few positions of a step, copying the weights into one would take longer than the products
            heads_of_each = (projection(x).unflatten(-1, (self.num_heads, -1)) for projection in projections)
            q, k, v = (tensor.transpose(-3, -2) for tensor in heads_of_each)
        if added_values is not None:
            v = v + added_values.to(v.dtype).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            if token_positions is not None and token_positions.dim() > 1:
                token_positions = token_positions.unsqueeze(-2)  # the heads
            if cache is None:
                q, k = self.rope(q, token_positions), self.rope(k, token_positions)
            else:  # one call for both, because a step's vectors are so few that calls are what it costs
                both = torch.stack((q, k))
                if token_positions is None:
                    q, k = self.rope.rotate_from(cache.length, both)
                else:
                    q, k = self.rope(both, token_positions)
        if cache is not None:
            k, v = cache.append(k, v)
        if mask is None:
            # A single query sees all keys, and is not worth an operator of its own.
            gathered = causal_attention(q, k, v) if q.shape[-2] > 1 else _attend(q, k, v, None)
        else:
            gathered = scaled_dot_product_attention(q, k, v, mask if mask.dim() == 2 else mask.unsqueeze(-3))
        return self.output_proj(gathered.transpose(-3, -2).flatten(-2))
