"""Attention in the form that suits the device: Triton kernels on a GPU, blocks of scores elsewhere.

The layers above call `causal_attention`, or `materialized_attention` for a mask of their own. The other modules are
private to this room.
"""

import math

from jaxtyping import Float
from torch import Tensor

from nnscratch.argument_checks import shape_error
from nnscratch.attention_kernels.blockwise import blockwise_attention
from nnscratch.attention_kernels.materialized import materialized_attention
from nnscratch.attention_kernels.triton_operator import can_flash, flash_attention
from nnscratch.autocast import cast_for_autocast

__all__ = ["causal_attention", "materialized_attention"]


def causal_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*kv_batch keys d_k"],
    v: Float[Tensor, "*kv_batch keys d_v"],
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v in which a query attends to its own position and those before it.

    The queries belong to the last positions of the keys. Scores are computed in blocks, so memory is linear in the
    number of positions. Under autocast, products are computed in autocast's dtype.

    Keys and values may have fewer heads, which are the last batch dimension, than queries: then group after group of
    adjacent query heads shares one. No kernel repeats keys or values in memory.

    Raises:
        ValueError: If there are more queries than keys, or the batch dimensions do not match.
    """
    check_groups(q, k)
    queries, keys = q.shape[-2], k.shape[-2]
    if keys < queries:
        raise ValueError(f"got {queries} queries and {keys} keys, expected at least as many keys; pass all positions")
    if queries <= 1:  # With one query no mask is needed, and a custom op would cost more than it saves.
        return materialized_attention(q, k, v)
    q, k, v = cast_for_autocast(q, k, v)
    if q.dim() == 4 and can_flash(q, k, v):
        return flash_attention(q, k, v)
    output = blockwise_attention(*(t.reshape(math.prod(t.shape[:-2]), *t.shape[-2:]) for t in (q, k, v)))
    return output.view(*q.shape[:-1], v.shape[-1])


def check_groups(q: Tensor, k: Tensor) -> None:
    """Raise a ValueError unless the batch of the keys is that of the queries, or has heads that divide theirs."""
    batch, kv_batch = q.shape[:-2], k.shape[:-2]
    if batch == kv_batch:
        return
    if len(batch) != len(kv_batch) or batch[:-1] != kv_batch[:-1] or not kv_batch[-1] or batch[-1] % kv_batch[-1]:
        raise shape_error("k", k, f"the batch dimensions {tuple(batch)} of q, or a divisor of the last, the heads")
