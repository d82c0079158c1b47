"""Causal attention by the way that suits the device: Triton kernels on a GPU, blocks of scores elsewhere."""

import math

from jaxtyping import Float
from torch import Tensor

from nnscratch.attention_kernels.blockwise import blockwise_attention
from nnscratch.attention_kernels.triton_operator import can_flash, flash_attention
from nnscratch.autocast import cast_for_autocast


def causal_attention(
    q: Float[Tensor, "*batch queries d_k"], k: Float[Tensor, "*batch keys d_k"], v: Float[Tensor, "*batch keys d_v"]
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v where a query sees itself and the positions before it.

    The queries are the last of the keys' positions. The scores never exist together, so memory is linear in the
    number of positions; under autocast, products are in its type.

    Raises:
        ValueError: if there are more queries than keys.
    """
    q, k, v = cast_for_autocast(q, k, v)
    if q.dim() == 4 and can_flash(q, k, v):
        return flash_attention(q, k, v)
    batch = q.shape[:-2]
    output = blockwise_attention(*(tensor.reshape(math.prod(batch), *tensor.shape[-2:]) for tensor in (q, k, v)))
    return output.view(*q.shape[:-1], v.shape[-1])
