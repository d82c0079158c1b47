"""What the Triton kernels of attention share: reading and writing blocks of rows of one head.

Tensors are (batch, heads, positions, features) with any strides but the last, which is 1.
"""

from typing import no_type_check  # a checker of shapes may not wrap what Triton reads

import triton
import triton.language as tl


@triton.jit
@no_type_check
def program_of(positions, BLOCK: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return the head of this program, which block of positions it has, and how many blocks there are.

    All programs lie on one axis, since CUDA takes 65,535 at most on the others; those of a head are side by side, for
    they read the same keys and values.
    """
    blocks = tl.cdiv(positions, BLOCK)
    return tl.program_id(0) // blocks, tl.program_id(0) % blocks, blocks


@triton.jit
@no_type_check
def head_pointer(pointer, batch_stride, head_stride, heads, index) -> tl.tensor:
    """Return the pointer to a head, of those of all rows of the batch."""
    return pointer + (index // heads).to(tl.int64) * batch_stride + (index % heads).to(tl.int64) * head_stride


@triton.jit
@no_type_check
def load_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, MASKED: tl.constexpr) -> tl.tensor:
    """Return a block of rows, with zeros beyond the edges."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    if MASKED:
        return tl.load(pointers, mask=(rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE), other=0.0)
    if features.shape[0] == HEAD_SIZE:
        return tl.load(pointers)
    return tl.load(pointers, mask=features[None, :] < HEAD_SIZE, other=0.0)


@triton.jit
@no_type_check
def store_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, values) -> None:
    """Write what lies within the edges of a block of rows."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    inside = (rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE)
    tl.store(pointers, values.to(pointer.dtype.element_ty), mask=inside)
