"""Attention in the form that suits the device: Triton kernels on a GPU, blocks of scores elsewhere.

The layers above call `causal_attention`, `normalized_attention` where kernels also normalize and rotate,
`materialized_attention` for a mask of their own, or `dropout_attention`. The other modules are private to this room.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.argument_checks import shape_error
from nnscratch.attention_kernels.blockwise import blockwise_attention
from nnscratch.attention_kernels.materialized import (
    dropout_attention,
    materialized_attention,
    single_query_attention,
)
from nnscratch.attention_kernels.triton_normalized import normalized_attention
from nnscratch.attention_kernels.triton_operator import can_flash, flash_attention
from nnscratch.autocast import cast_for_autocast

__all__ = ["causal_attention", "dropout_attention", "materialized_attention", "normalized_attention"]


def causal_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*kv_batch keys d_k"],
    v: Float[Tensor, "*kv_batch keys d_v"],
    first_keys: Int[Tensor, "*#sequences queries"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v in which a query attends to its own position and those before it.

    The queries belong to the last positions of the keys. Scores are computed in blocks, so memory is linear in the
    number of positions. Under autocast, products are computed in autocast's dtype.

    Keys and values may have fewer heads, which are the last batch dimension, than queries: then group after group of
    adjacent query heads shares one. No kernel repeats keys or values in memory.

    With `first_keys` a query attends to fewer keys, and blocks of keys that no query of a block attends to are left
    out. For a sliding window of w keys (Beltagy et al. 2020, 3.1) it is the query's position - w + 1. For texts packed
    into one sequence it is the position at which the query's text begins. The larger of the two gives both; plainly:
    `nnscratch.reference.attention_mask`.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        first_keys: For each query the index of the first key it attends to; None for the first of all. Indices must
            not decrease from query to query nor exceed the query's own position, which is not checked. Those below 0
            count as 0. Leading dimensions broadcast to the batch dimensions of q without the heads: (queries,) is for
            all sequences, and (batch, queries) for q of shape (batch, heads, queries, d_k).

    Raises:
        ValueError: If there are more queries than keys, the batch dimensions do not match, or `first_keys` are no
            integers or do not have one for each query.
    """
    check_groups(q, k)
    queries, keys = q.shape[-2], k.shape[-2]
    if keys < queries:
        raise ValueError(f"got {queries} queries and {keys} keys, expected at least as many keys; pass all positions")
    if first_keys is not None:
        first_keys = _by_sequence(first_keys, q)
    if queries <= 1:  # With one query no mask is needed, and a custom op would cost more than it saves.
        if first_keys is None:
            return materialized_attention(q, k, v)
        return single_query_attention(q, k, v, first_keys)
    q, k, v = cast_for_autocast(q, k, v)
    if q.dim() == 4 and can_flash(q, k, v):
        return flash_attention(q, k, v, first_keys)
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = (tensor.reshape(math.prod(tensor.shape[:-2]), *tensor.shape[-2:]) for tensor in (q, k, v))
    return blockwise_attention(q, k, v, first_keys).view(shape)


def check_groups(q: Tensor, k: Tensor) -> None:
    """Raise a ValueError unless the batch of the keys is that of the queries, or has heads that divide theirs."""
    batch, kv_batch = q.shape[:-2], k.shape[:-2]
    if batch == kv_batch:
        return
    if len(batch) != len(kv_batch) or batch[:-1] != kv_batch[:-1] or not kv_batch[-1] or batch[-1] % kv_batch[-1]:
        raise shape_error("k", k, f"the batch dimensions {tuple(batch)} of q, or a divisor of the last, the heads")


def _by_sequence(first_keys: Tensor, q: Tensor) -> Tensor:
    """Return first keys (sequences, queries), where 1 sequence stands for all.

    Raises:
        ValueError: If the shape or dtype does not fit.
    """
    if first_keys.dtype == torch.bool or first_keys.is_floating_point() or first_keys.is_complex():
        raise ValueError(f"first_keys has dtype {first_keys.dtype}, expected integers such as torch.int32")
    sequences, given = q.shape[:-3], first_keys.shape[:-1]
    pairs = zip(reversed(given), reversed(sequences), strict=False)
    if first_keys.shape[-1:] != q.shape[-2:-1] or len(given) > len(sequences) or any(a not in (1, b) for a, b in pairs):
        raise shape_error("first_keys", first_keys, f"{(*sequences, q.shape[-2])}, or fewer that broadcast to it")
    if math.prod(given) == 1:
        return first_keys.reshape(1, q.shape[-2])
    return first_keys.expand(*sequences, -1).reshape(math.prod(sequences), q.shape[-2])
