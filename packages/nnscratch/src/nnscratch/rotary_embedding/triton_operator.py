"""QK-norm and rotary position embedding in one pass on GPUs, as operators that torch.compile keeps."""

from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_HEAD_SIZE = 128
POSITIONS = 16
"""Positions of a program: as many as give each thread enough numbers, and few enough for 4,096 programs of a batch."""
WARPS = 4
_HAS_TRITON = find_spec("triton") is not None  # Asked here, because torch.compile could not trace the question.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def can_normalize_and_rotate(joint: Tensor, head_size: int) -> bool:
    """Return whether `normalize_and_rotate` supports the tensor: on a GPU, in dtype and head size, and not empty."""
    return joint.is_cuda and _HAS_TRITON and joint.dtype in _DTYPES and head_size <= MAX_HEAD_SIZE and joint.numel() > 0


def normalize_and_rotate(
    joint: Float[Tensor, "*batch seq width"],
    q_gain: Float[Tensor, "head_size"] | None,
    k_gain: Float[Tensor, "head_size"] | None,
    cos: Float[Tensor, "seq pairs"],
    sin: Float[Tensor, "seq pairs"],
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys, normalized by RMSNorm and rotated, and the values, as (..., heads, seq, head_size).

    The same as `functional.rms_norm` and then `functional.rotate_pairs`, but between them nothing is rounded or stored.
    The backward pass writes the gradient of `joint` in one pass, too. Norms and angles are in float32.

    Args:
        joint: Product of the input with the weights of all three: num_heads heads of queries, then as many heads of
            keys as of values. `can_normalize_and_rotate` must accept it.
        q_gain: Gain of the norm of queries; None if neither norm has one.
        k_gain: Gain of the norm of keys.
        cos: Cosines of the angles of each position.
        sin: Sines of these.
        eps: Eps of the norms.
        num_heads: Number of heads of queries.
    """
    head_size = 2 * cos.shape[1]
    heads = joint.reshape(-1, joint.shape[-2], joint.shape[-1] // head_size, head_size)
    shape = (*joint.shape[:-2], -1, joint.shape[-2], head_size)
    results: tuple[Tensor, ...] = _NormalizeAndRotate.apply(heads, q_gain, k_gain, cos, sin, eps, num_heads)
    q, k, v = (result.view(shape) for result in results)
    return q, k, v


class _NormalizeAndRotate(torch.autograd.Function):
    """The two operators. A function of its own, because an operator may not return the values, which are a view."""

    @staticmethod
    def forward(
        ctx: Any,
        joint: Tensor,
        q_gain: Tensor | None,
        k_gain: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        eps: float,
        num_heads: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = (joint, q_gain, k_gain, cos, sin)
        ctx.save_for_backward(*inputs)
        ctx.eps, ctx.num_heads = eps, num_heads
        q, k = rotate_forward(*inputs, eps, num_heads)
        v = joint[:, :, q.shape[2] + k.shape[2] :]
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grads = [grad.transpose(1, 2) for grad in grad_outputs]
        joint_grad, gain_grads = _backward(*grads, *ctx.saved_tensors, ctx.eps, ctx.num_heads)
        _, q_gain, k_gain, _, _ = ctx.saved_tensors
        return joint_grad, *summed(gain_grads, q_gain, k_gain), None, None, None, None


def summed(gain_grads: Tensor, q_gain: Tensor | None, k_gain: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of both gains from those of each program; None without gains."""
    if q_gain is None or k_gain is None:
        return None, None
    q_gain_grad, k_gain_grad = gain_grads.sum(0).unbind()
    return q_gain_grad.to(q_gain.dtype), k_gain_grad.to(k_gain.dtype)


def _programs(joint: Tensor) -> int:
    return joint.shape[0] * -(-joint.shape[1] // POSITIONS)


def _launch(kernel: Any, joint: Tensor, num_heads: int, eps: float, *arguments: Tensor | None) -> None:
    """Run a kernel on each block of positions; Triton launches on the current device, which may be another."""
    _, length, heads, head_size = joint.shape
    arguments = tuple(None if tensor is None else tensor.contiguous() for tensor in arguments)
    with torch.cuda.device_of(joint):
        kernel[(_programs(joint),)](
            *arguments,
            length,
            eps,
            Q_HEADS=num_heads,
            KV_HEADS=(heads - num_heads) // 2,
            HEAD_SIZE=head_size,
            FEATURES=max(16, 1 << (head_size - 1).bit_length()),
            POSITIONS=POSITIONS,
            num_warps=WARPS,
        )


@torch.library.custom_op("nnscratch::normalize_and_rotate", mutates_args=())
def rotate_forward(
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    """Return (batch, seq, heads, head_size) queries and keys."""
    from nnscratch.rotary_embedding.triton_kernels import forward_kernel

    q, k = _outputs(joint, num_heads)
    _launch(forward_kernel, joint, num_heads, eps, joint, q_gain, k_gain, cos, sin, q, k)
    return q, k


@rotate_forward.register_fake
def _(
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    return _outputs(joint, num_heads)


def _outputs(joint: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    batch, length, heads, head_size = joint.shape
    kv_heads = (heads - num_heads) // 2
    return joint.new_empty(batch, length, num_heads, head_size), joint.new_empty(batch, length, kv_heads, head_size)


@torch.library.custom_op("nnscratch::normalize_and_rotate_backward", mutates_args=())
def _backward(
    q_grad: Tensor,
    k_grad: Tensor,
    v_grad: Tensor,
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of `joint`, and those of both gains in each program, (programs, 2, head_size), if any."""
    from nnscratch.rotary_embedding.triton_kernels import backward_kernel

    joint_grad, gain_grads = empty_gradients(joint, q_gain)
    inputs = (q_grad, k_grad, v_grad, joint, q_gain, k_gain, cos, sin)
    _launch(backward_kernel, joint, num_heads, eps, *inputs, joint_grad, gain_grads)
    return joint_grad, gain_grads


def differentiate_in_place(
    joint_grad: Tensor,
    gain_grads: Tensor,
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> None:
    """Turn the gradients of queries, keys and values, side by side, into that of `joint`, and store those of gains."""
    from nnscratch.rotary_embedding.triton_kernels import backward_kernel

    inputs = (joint, q_gain, k_gain, cos, sin)
    _launch(backward_kernel, joint, num_heads, eps, None, None, None, *inputs, joint_grad, gain_grads)


@_backward.register_fake
def _(
    q_grad: Tensor,
    k_grad: Tensor,
    v_grad: Tensor,
    joint: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    return empty_gradients(joint, q_gain)


def empty_gradients(joint: Tensor, q_gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return memory for the results of `normalize_and_rotate_backward`."""
    programs = 0 if q_gain is None else _programs(joint)
    return joint.new_empty(joint.shape), joint.new_empty(programs, 2, joint.shape[-1], dtype=torch.float32)
