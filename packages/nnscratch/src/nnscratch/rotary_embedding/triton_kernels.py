"""Triton kernels of QK-norm and rotary position embedding together, forward and backward.

A head x becomes y = R(x / rms(x) · gain), where R rotates adjacent pairs by the angles of the position. Each program
handles all heads of a block of positions, so it reads the angles once. Numbers are float32 in registers.
"""

from typing import no_type_check  # Triton compiles the source, so a shape checker must not wrap it.

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _rotated(x, cos, sin, POSITIONS: tl.constexpr, FEATURES: tl.constexpr):
    """Rotate adjacent features of a block of vectors."""
    even, odd = tl.split(tl.reshape(x, (POSITIONS, FEATURES // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (POSITIONS, FEATURES))


@triton.jit
@no_type_check
def _inverse_rms(x, eps, HEAD_SIZE: tl.constexpr):
    return tl.rsqrt(tl.sum(x * x, 1) / HEAD_SIZE + eps)[:, None]


@triton.jit
@no_type_check
def _block(length, HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, POSITIONS: tl.constexpr):
    """Return the rows, features and mask of a program's vectors, and the offsets and mask of their angles."""
    blocks = tl.cdiv(length, POSITIONS)
    program = tl.program_id(0)
    positions = program % blocks * POSITIONS + tl.arange(0, POSITIONS)
    rows = (program // blocks).to(tl.int64) * length + positions
    features = tl.arange(0, FEATURES)
    pairs = tl.arange(0, FEATURES // 2)
    exists = positions[:, None] < length
    angles = positions[:, None] * (HEAD_SIZE // 2) + pairs[None, :]
    return rows[:, None], features, exists & (features < HEAD_SIZE)[None, :], angles, exists & (pairs < HEAD_SIZE // 2)


@triton.jit
@no_type_check
def _gain(pointer, features, HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr):
    """Load the gain of a norm; without one, return ones, by which the compiler does not multiply."""
    if pointer is None:
        gain = tl.full([FEATURES], 1.0, tl.float32)
    else:
        gain = tl.load(pointer + features, features < HEAD_SIZE, 0.0).to(tl.float32)
    return gain


# Not specialized on the length: the last window of a text has a length of any divisibility.
@triton.jit(do_not_specialize=["length"])
@no_type_check
def forward_kernel(
    joint_pointer, q_gain_pointer, k_gain_pointer, cos_pointer, sin_pointer, q_pointer, k_pointer, length, eps,
    Q_HEADS: tl.constexpr, KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, POSITIONS: tl.constexpr,
) -> None:  # fmt: skip
    """Store normalized and rotated queries and keys, of which `joint` has all heads, and then those of the values."""
    rows, features, mask, angles, angle_mask = _block(length, HEAD_SIZE, FEATURES, POSITIONS)
    cos = tl.load(cos_pointer + angles, angle_mask, 0.0)
    sin = tl.load(sin_pointer + angles, angle_mask, 0.0)
    q_gain = _gain(q_gain_pointer, features, HEAD_SIZE, FEATURES)
    k_gain = _gain(k_gain_pointer, features, HEAD_SIZE, FEATURES)
    joint = joint_pointer + rows * ((Q_HEADS + 2 * KV_HEADS) * HEAD_SIZE) + features[None, :]
    q = q_pointer + rows * (Q_HEADS * HEAD_SIZE) + features[None, :]
    k = k_pointer + rows * (KV_HEADS * HEAD_SIZE) + features[None, :]
    for head in range(Q_HEADS):
        x = tl.load(joint + head * HEAD_SIZE, mask, 0.0).to(tl.float32)
        x = x * _inverse_rms(x, eps, HEAD_SIZE) * q_gain[None, :]
        x = _rotated(x, cos, sin, POSITIONS, FEATURES)
        tl.store(q + head * HEAD_SIZE, x.to(q_pointer.dtype.element_ty), mask)
    for head in range(KV_HEADS):
        x = tl.load(joint + (Q_HEADS + head) * HEAD_SIZE, mask, 0.0).to(tl.float32)
        x = x * _inverse_rms(x, eps, HEAD_SIZE) * k_gain[None, :]
        x = _rotated(x, cos, sin, POSITIONS, FEATURES)
        tl.store(k + head * HEAD_SIZE, x.to(k_pointer.dtype.element_ty), mask)


@triton.jit
@no_type_check
def _head_gradient(
    grad, x, gain, cos, sin, eps, HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, POSITIONS: tl.constexpr
):  # fmt: skip
    """Return the gradients of a block of heads, and of its gain as a sum over the positions."""
    grad = _rotated(grad, cos, -sin, POSITIONS, FEATURES)
    inverse = _inverse_rms(x, eps, HEAD_SIZE)
    normal = x * inverse
    # With n = x / rms and g = grad · gain: dx = (g - n · mean(g · n)) / rms
    scaled = grad * gain[None, :]
    mean = (tl.sum(scaled * normal, 1) / HEAD_SIZE)[:, None]
    return (scaled - normal * mean) * inverse, tl.sum(grad * normal, 0)


@triton.jit(do_not_specialize=["length"])
@no_type_check
def backward_kernel(
    q_grad_pointer, k_grad_pointer, v_grad_pointer, joint_pointer, q_gain_pointer, k_gain_pointer,
    cos_pointer, sin_pointer, joint_grad_pointer, gain_grad_pointer, length, eps,
    Q_HEADS: tl.constexpr, KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, POSITIONS: tl.constexpr,
) -> None:  # fmt: skip
    """Store the gradient of `joint`, into which that of the values is copied, and the program's share of the gains'.

    If `joint_grad` has the gradients of queries, keys and values, there are no pointers to them, and the first two are
    replaced.
    """
    rows, features, mask, angles, angle_mask = _block(length, HEAD_SIZE, FEATURES, POSITIONS)
    cos = tl.load(cos_pointer + angles, angle_mask, 0.0)
    sin = tl.load(sin_pointer + angles, angle_mask, 0.0)
    q_gain = _gain(q_gain_pointer, features, HEAD_SIZE, FEATURES)
    k_gain = _gain(k_gain_pointer, features, HEAD_SIZE, FEATURES)
    joint = rows * ((Q_HEADS + 2 * KV_HEADS) * HEAD_SIZE) + features[None, :]
    if v_grad_pointer is None:
        q_grad = joint_grad_pointer + joint
        k_grad = q_grad + Q_HEADS * HEAD_SIZE
    else:
        q_grad = q_grad_pointer + rows * (Q_HEADS * HEAD_SIZE) + features[None, :]
        k_grad = k_grad_pointer + rows * (KV_HEADS * HEAD_SIZE) + features[None, :]
    element = joint_grad_pointer.dtype.element_ty
    gains = gain_grad_pointer + tl.program_id(0).to(tl.int64) * (2 * HEAD_SIZE) + features
    total = tl.zeros([FEATURES], tl.float32)
    for head in range(Q_HEADS):
        offsets = joint + head * HEAD_SIZE
        grad = tl.load(q_grad + head * HEAD_SIZE, mask, 0.0).to(tl.float32)
        x = tl.load(joint_pointer + offsets, mask, 0.0).to(tl.float32)
        x_grad, share = _head_gradient(grad, x, q_gain, cos, sin, eps, HEAD_SIZE, FEATURES, POSITIONS)
        tl.store(joint_grad_pointer + offsets, x_grad.to(element), mask)
        if q_gain_pointer is not None:
            total += share
    if q_gain_pointer is not None:
        tl.store(gains, total, features < HEAD_SIZE)
    total = tl.zeros([FEATURES], tl.float32)
    for head in range(KV_HEADS):
        offsets = joint + (Q_HEADS + head) * HEAD_SIZE
        grad = tl.load(k_grad + head * HEAD_SIZE, mask, 0.0).to(tl.float32)
        x = tl.load(joint_pointer + offsets, mask, 0.0).to(tl.float32)
        x_grad, share = _head_gradient(grad, x, k_gain, cos, sin, eps, HEAD_SIZE, FEATURES, POSITIONS)
        tl.store(joint_grad_pointer + offsets, x_grad.to(element), mask)
        if q_gain_pointer is not None:
            total += share
    if q_gain_pointer is not None:
        tl.store(gains + HEAD_SIZE, total, features < HEAD_SIZE)
    if v_grad_pointer is not None:
        v_grad = v_grad_pointer + rows * (KV_HEADS * HEAD_SIZE) + features[None, :]
        for head in range(KV_HEADS):
            grad = tl.load(v_grad + head * HEAD_SIZE, mask, 0.0)
            tl.store(joint_grad_pointer + joint + (Q_HEADS + KV_HEADS + head) * HEAD_SIZE, grad.to(element), mask)
