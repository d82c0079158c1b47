"""Causal attention in plain torch with the scores in blocks that fit a processor's caches, forward and backward."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.autocast import at_least_float32

_SCORES_AT_ONCE = 2**19
_QUERIES_AT_ONCE = 64


def blockwise_attention(
    q: Float[Tensor, "batch queries d_k"],
    k: Float[Tensor, "kv_batch keys d_k"],
    v: Float[Tensor, "kv_batch keys d_v"],
    first_keys: Int[Tensor, "sequences queries"] | None = None,
) -> Float[Tensor, "batch queries d_v"]:
    """Return causal softmax(q kᵀ / sqrt(d_k)) v; the queries belong to the last positions of the keys.

    kv_batch divides batch: groups of adjacent queries share keys and values, and a block holds the queries of a group.

    A query attends to keys from its entry of `first_keys` on, as in `causal_attention`. A row of `first_keys` is for
    adjacent keys and values, so sequences divides kv_batch.

    Both passes compute the scores of a block of queries with all keys that they attend to. The backward pass recomputes
    them from the logarithm of each row's sum (Dao et al. 2022, appendix B), so memory is linear in the number of
    positions. Scores and sums are in float32 at least. torch.compile sees one operator, so that a long context does not
    make a long program.
    """
    return _forward(q, k, v, first_keys)[0]


def _grouped(tensor: Tensor, k: Tensor) -> Tensor:
    """Return a view (kv_batch, group, queries, features) of the queries or something of their shape."""
    return tensor.unflatten(0, (k.shape[0], tensor.shape[0] // max(k.shape[0], 1)))


def _first_keys_of_heads(first_keys: Tensor | None, k: Tensor) -> Tensor | None:
    """Return a row of first keys for each head of keys and values."""
    if first_keys is None:
        return None
    heads = k.shape[0] // max(first_keys.shape[0], 1)
    return first_keys.unsqueeze(1).expand(-1, heads, -1).reshape(k.shape[0], first_keys.shape[1])


def _parts(q: Tensor, k: Tensor, first_keys: Tensor | None) -> Iterator[tuple[slice, Tensor | None]]:
    """Yield slices of the batch, each as large as the caches hold the scores of for a block, and their first keys."""
    batch, group, queries = q.shape[:3]
    most_keys = max((seen.stop - seen.start for _, seen in _blocks(queries, k.shape[1], first_keys)), default=0)
    at_once = max(1, _SCORES_AT_ONCE // max(group * min(queries, _QUERIES_AT_ONCE) * most_keys, 1))
    for first in range(0, batch, at_once):
        part = slice(first, min(first + at_once, batch))
        yield part, None if first_keys is None else first_keys[part]


def _blocks(queries: int, keys: int, first_keys: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the queries, each with the slice of the keys that at least one of them attends to."""
    begins = [0] * queries
    if first_keys is not None and len(first_keys):
        begins = first_keys[:, ::_QUERIES_AT_ONCE].amin(0).clamp_(min=0).tolist()
    for block, first in enumerate(range(0, queries, _QUERIES_AT_ONCE)):
        end = min(first + _QUERIES_AT_ONCE, queries)
        yield slice(first, end), slice(begins[block], keys - queries + end)


def _scores(q: Tensor, k: Tensor, future: Tensor, first_keys: Tensor | None) -> Tensor:
    """Return q kᵀ for a block of queries and the keys up to its last one, -inf where a query does not attend to a key.

    The queries are (batch, group, rows, d_k), the scores (batch, group · rows, keys). The first keys (batch, rows) are
    counted from the first of these keys.
    """
    rows = q.shape[2]
    scores = torch.bmm(q.flatten(1, 2), k.mT)
    by_row = scores.view(*q.shape[:3], -1)
    by_row[..., k.shape[1] - rows :].add_(future[:rows, :rows])
    if first_keys is not None:
        # Keys from the last row's first one on are not too early for any row.
        early = torch.arange(max(0, int(first_keys[:, -1].max())), device=k.device) < first_keys[:, None, :, None]
        by_row[..., : early.shape[-1]].masked_fill_(early, -math.inf)
    return scores


def _future(queries: int, like: Tensor) -> Tensor:
    """Return a square block with -inf where a key comes after a query, and 0 elsewhere."""
    size = min(queries, _QUERIES_AT_ONCE)
    return torch.full((size, size), -math.inf, dtype=at_least_float32(like.dtype), device=like.device).triu_(1)


@torch.library.custom_op("nnscratch::blockwise_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, first_keys: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, queries, d_k = q.shape
    keys, future = k.shape[1], _future(queries, q)
    wide, scale_for_exp2 = future.dtype, math.log2(math.e) / math.sqrt(d_k)
    output = v.new_empty(batch, queries, v.shape[-1])
    normalizers = future.new_empty(batch, queries, 1)
    q, grouped_output, grouped_normalizers = (_grouped(tensor, k) for tensor in (q, output, normalizers))
    for part, firsts in _parts(q, k, _first_keys_of_heads(first_keys, k)):
        part_q, part_k, part_v = q[part].to(wide) * scale_for_exp2, k[part].to(wide), v[part].to(wide)
        for rows, seen in _blocks(queries, keys, firsts):
            first = None if firsts is None else firsts[:, rows] - seen.start
            block = part_q[:, :, rows]
            weights = _scores(block, part_k[:, seen], future, first)
            maxima = weights.amax(-1, keepdim=True)
            sums = weights.sub_(maxima).exp2_().sum(-1, keepdim=True)
            values = torch.bmm(weights, part_v[:, seen]).div_(sums)
            grouped_output[part, :, rows] = values.view(*block.shape[:3], -1)
            grouped_normalizers[part, :, rows] = maxima.add_(sums.log2_()).view(*block.shape[:3], 1)
    return output, normalizers


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, first_keys: Tensor | None) -> tuple[Tensor, Tensor]:
    normalizers = q.new_empty(*q.shape[:2], 1, dtype=at_least_float32(q.dtype))
    return v.new_empty(*q.shape[:2], v.shape[-1]), normalizers


@torch.library.custom_op("nnscratch::blockwise_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first_keys: Tensor | None,
    output: Tensor,
    normalizers: Tensor,
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
    for part, firsts in _parts(q, k, _first_keys_of_heads(first_keys, k)):
        part_q, part_k, part_v, part_grad = q[part], k[part], v[part], grad[part]
        wide_q, wide_k = part_q.to(wide) * scale_for_exp2, part_k.to(wide)
        # The scores' gradient is scaled here, where numbers are few and not yet rounded.
        wide_v, wide_grad = part_v.to(wide), part_grad.to(wide) * scale
        part_k_grad, part_v_grad = torch.zeros_like(wide_k), torch.zeros_like(wide_v)
        for rows, seen in _blocks(queries, keys, firsts):
            first = None if firsts is None else firsts[:, rows] - seen.start
            block = wide_q[:, :, rows]
            weights = _scores(block, wide_k[:, seen], future, first)
            weights.sub_(normalizers[part, :, rows].flatten(1, 2)).exp2_()
            part_v_grad[:, seen] += torch.bmm(weights.to(v.dtype).mT, part_grad[:, :, rows].flatten(1, 2))
            weight_grad = torch.bmm(wide_grad[:, :, rows].flatten(1, 2), wide_v[:, seen].mT)
            score_grad = weight_grad.sub_(row_sums[part, :, rows].flatten(1, 2)).mul_(weights).to(q.dtype)
            grouped_q_grad[part, :, rows] = torch.bmm(score_grad, part_k[:, seen]).view(block.shape)
            part_k_grad[:, seen] += torch.bmm(score_grad.mT, part_q[:, :, rows].flatten(1, 2))
        k_grad[part], v_grad[part] = part_k_grad, part_v_grad
    return q_grad, k_grad, v_grad


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first_keys: Tensor | None,
    output: Tensor,
    normalizers: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def register_backward(forward: Any, backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Make `backward` the derivative of the custom operator `forward`, which returns the output and normalizers.

    The inputs after q, k and v have no gradient.
    """

    def keep(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients = (None, None, None) if grad is None else backward(grad, *ctx.saved_tensors)
        return (*gradients, *(None for _ in ctx.needs_input_grad[3:]))

    forward.register_autograd(differentiate, setup_context=keep)


register_backward(_forward, _backward)
