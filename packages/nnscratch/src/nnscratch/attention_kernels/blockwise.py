"""Causal attention in plain torch with the scores in blocks that fit a processor's caches, forward and backward."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnscratch.autocast import at_least_float32

_SCORES_AT_ONCE = 2**19
_QUERIES_AT_ONCE = 64


def blockwise_attention(
    q: Float[Tensor, "batch queries d_k"], k: Float[Tensor, "kv_batch keys d_k"], v: Float[Tensor, "kv_batch keys d_v"]
) -> Float[Tensor, "batch queries d_v"]:
    """Return causal softmax(q kᵀ / sqrt(d_k)) v; the queries belong to the last positions of the keys.

    kv_batch divides batch: groups of adjacent queries share keys and values, and a block holds the queries of a group.

    Both passes compute the scores of a block of queries with all keys that they attend to. The backward pass recomputes
    them from the logarithm of each row's sum (Dao et al. 2022, appendix B), so memory is linear in the number of
    positions. Scores and sums are in float32 at least. torch.compile sees one operator, so that a long context does not
    make a long program.
    """
    return _forward(q, k, v)[0]


def _grouped(tensor: Tensor, k: Tensor) -> Tensor:
    """Return a view (kv_batch, group, queries, features) of the queries or something of their shape."""
    return tensor.unflatten(0, (k.shape[0], tensor.shape[0] // max(k.shape[0], 1)))


def _parts(q: Tensor, k: Tensor) -> Iterator[slice]:
    """Yield slices of the batch, each as large as the caches hold the scores of for a block of queries."""
    batch, group, queries = q.shape[:3]
    at_once = max(1, _SCORES_AT_ONCE // max(group * min(queries, _QUERIES_AT_ONCE) * k.shape[1], 1))
    for first in range(0, batch, at_once):
        yield slice(first, min(first + at_once, batch))


def _blocks(queries: int) -> Iterator[slice]:
    """Yield slices of the queries."""
    for first in range(0, queries, _QUERIES_AT_ONCE):
        yield slice(first, min(first + _QUERIES_AT_ONCE, queries))


def _scores(q: Tensor, k: Tensor, future: Tensor) -> Tensor:
    """Return q kᵀ for a block of queries and the keys up to its last one, -inf where a key comes after a query.

    The queries are (batch, group, rows, d_k), the scores (batch, group · rows, keys).
    """
    rows = q.shape[2]
    scores = torch.bmm(q.flatten(1, 2), k.mT)
    scores.view(*q.shape[:3], -1)[..., k.shape[1] - rows :].add_(future[:rows, :rows])
    return scores


def _future(queries: int, like: Tensor) -> Tensor:
    """Return a square block with -inf where a key comes after a query, and 0 elsewhere."""
    size = min(queries, _QUERIES_AT_ONCE)
    return torch.full((size, size), -math.inf, dtype=at_least_float32(like.dtype), device=like.device).triu_(1)


@torch.library.custom_op("nnscratch::blockwise_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    batch, queries, d_k = q.shape
    keys, future = k.shape[1], _future(queries, q)
    wide, scale_for_exp2 = future.dtype, math.log2(math.e) / math.sqrt(d_k)
    output = v.new_empty(batch, queries, v.shape[-1])
    normalizers = future.new_empty(batch, queries, 1)
    q, grouped_output, grouped_normalizers = (_grouped(tensor, k) for tensor in (q, output, normalizers))
    for part in _parts(q, k):
        part_q, part_k, part_v = q[part].to(wide) * scale_for_exp2, k[part].to(wide), v[part].to(wide)
        for rows in _blocks(queries):
            end = keys - queries + rows.stop
            block = part_q[:, :, rows]
            weights = _scores(block, part_k[:, :end], future)
            maxima = weights.amax(-1, keepdim=True)
            sums = weights.sub_(maxima).exp2_().sum(-1, keepdim=True)
            values = torch.bmm(weights, part_v[:, :end]).div_(sums)
            grouped_output[part, :, rows] = values.view(*block.shape[:3], -1)
            grouped_normalizers[part, :, rows] = maxima.add_(sums.log2_()).view(*block.shape[:3], 1)
    return output, normalizers


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    normalizers = q.new_empty(*q.shape[:2], 1, dtype=at_least_float32(q.dtype))
    return v.new_empty(*q.shape[:2], v.shape[-1]), normalizers


@torch.library.custom_op("nnscratch::blockwise_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, normalizers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    queries, d_k = q.shape[1:]
    keys, future = k.shape[1], _future(queries, q)
    wide, scale = future.dtype, 1 / math.sqrt(d_k)
    scale_for_exp2 = scale * math.log2(math.e)
    # The normalization subtracts each row's sum from the gradients of its weights.
    row_sums = (grad.to(wide) * output).sum(-1, keepdim=True).mul_(scale)
    q_grad, k_grad, v_grad = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    q, grad, normalizers, row_sums = (_grouped(tensor, k) for tensor in (q, grad, normalizers, row_sums))
    grouped_q_grad = _grouped(q_grad, k)
    for part in _parts(q, k):
        part_q, part_k, part_v, part_grad = q[part], k[part], v[part], grad[part]
        wide_q, wide_k = part_q.to(wide) * scale_for_exp2, part_k.to(wide)
        # The scores' gradient is scaled here, where numbers are few and not yet rounded.
        wide_v, wide_grad = part_v.to(wide), part_grad.to(wide) * scale
        part_k_grad, part_v_grad = torch.zeros_like(wide_k), torch.zeros_like(wide_v)
        for rows in _blocks(queries):
            end = keys - queries + rows.stop
            block = wide_q[:, :, rows]
            weights = _scores(block, wide_k[:, :end], future)
            weights.sub_(normalizers[part, :, rows].flatten(1, 2)).exp2_()
            part_v_grad[:, :end] += torch.bmm(weights.to(v.dtype).mT, part_grad[:, :, rows].flatten(1, 2))
            weight_grad = torch.bmm(wide_grad[:, :, rows].flatten(1, 2), wide_v[:, :end].mT)
            score_grad = weight_grad.sub_(row_sums[part, :, rows].flatten(1, 2)).mul_(weights).to(q.dtype)
            grouped_q_grad[part, :, rows] = torch.bmm(score_grad, part_k[:, :end]).view(block.shape)
            part_k_grad[:, :end] += torch.bmm(score_grad.mT, part_q[:, :, rows].flatten(1, 2))
        k_grad[part], v_grad[part] = part_k_grad, part_v_grad
    return q_grad, k_grad, v_grad


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, normalizers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def register_backward(forward: Any, backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Make `backward` the derivative of the custom operator `forward`, which returns the output and normalizers."""

    def keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None
        return backward(grad, *ctx.saved_tensors)

    forward.register_autograd(differentiate, setup_context=keep)


register_backward(_forward, _backward)
