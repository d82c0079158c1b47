"""Causal attention of heads that are normalized and rotated first, by our own Triton kernels.

Its backward pass writes the gradients of queries, keys and values side by side, where the products with the weights of
all three want them. Two functions, one for the norms and one for attention, would copy those of the values.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.attention_kernels.triton_operator import flash_forward, write_gradients
from nnscratch.rotary_embedding.triton_operator import (
    differentiate_in_place,
    empty_gradients,
    rotate_forward,
    summed,
)


def normalized_attention(
    joint: Float[Tensor, "*batch seq width"],
    added_values: Float[Tensor, "*batch seq kv_width"] | None,
    q_gain: Float[Tensor, "head_size"] | None,
    k_gain: Float[Tensor, "head_size"] | None,
    cos: Float[Tensor, "seq pairs"],
    sin: Float[Tensor, "seq pairs"],
    eps: float,
    num_heads: int,
) -> Float[Tensor, "*batch heads seq head_size"]:
    """Return `causal_attention` of what `normalize_and_rotate` returns, with `added_values` added to the values.

    Args:
        joint: Queries, keys and values of all heads, as in `normalize_and_rotate`, whose conditions hold.
        added_values: Added to the values; None for nothing.
        q_gain: Gain of the norm of queries; None if neither norm has one.
        k_gain: Gain of the norm of keys.
        cos: Cosines of the angles of each position.
        sin: Sines of these.
        eps: Eps of the norms.
        num_heads: Number of heads of queries.
    """
    head_size, seq = 2 * cos.shape[1], joint.shape[-2]
    heads = joint.reshape(-1, seq, joint.shape[-1] // head_size, head_size)
    if added_values is not None:
        added_values = added_values.to(joint.dtype).reshape(heads.shape[0], seq, -1, head_size)
    output: Tensor = _NormalizedAttention.apply(heads, added_values, q_gain, k_gain, cos, sin, eps, num_heads)
    return output.view(*joint.shape[:-2], num_heads, seq, head_size)


class _NormalizedAttention(torch.autograd.Function):
    """Norms, rotation and attention in the forward pass, and one operator for all gradients in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        joint: Tensor,
        added_values: Tensor | None,
        q_gain: Tensor | None,
        k_gain: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        eps: float,
        num_heads: int,
    ) -> Tensor:
        q, k = rotate_forward(joint, q_gain, k_gain, cos, sin, eps, num_heads)
        v = joint[:, :, q.shape[2] + k.shape[2] :]
        if added_values is not None:
            v = v + added_values
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        output, normalizers = flash_forward(q, k, v, None)
        ctx.save_for_backward(q, k, v, output, normalizers, joint, q_gain, k_gain, cos, sin)
        ctx.eps, ctx.num_heads = eps, num_heads
        ctx.has_added_values = added_values is not None
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        joint_grad, gain_grads = _backward(*grad_outputs, *ctx.saved_tensors, ctx.eps, ctx.num_heads)
        _, _, v, *_, q_gain, k_gain, _, _ = ctx.saved_tensors
        added_grad = joint_grad[:, :, -v.shape[1] :] if ctx.has_added_values else None
        return joint_grad, added_grad, *summed(gain_grads, q_gain, k_gain), None, None, None, None


@torch.library.custom_op("nnscratch::normalized_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    normalizers: Tensor,
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of `joint`, and those of both gains in each program, (programs, 2, head_size), if any."""
    joint_grad, gain_grads = empty_gradients(joint, q_gain)
    q_grad, k_grad, v_grad = joint_grad.transpose(1, 2).split((q.shape[1], k.shape[1], v.shape[1]), dim=1)
    write_gradients(q_grad, k_grad, v_grad, grad, q, k, v, None, output, normalizers)
    differentiate_in_place(joint_grad, gain_grads, joint, q_gain, k_gain, cos, sin, eps, num_heads)
    return joint_grad, gain_grads


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    normalizers: Tensor,
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    return empty_gradients(joint, q_gain)
