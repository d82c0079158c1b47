"""What the Triton kernels of attention share: reading and writing blocks of rows of one head.

Tensors are (batch, heads, positions, features) with any strides but the last, which is 1.
"""

from typing import no_type_check  # a checker of shapes may not wrap what Triton reads

import triton
import triton.language as tl


@triton.jit
@no_type_check
def head_pointer(pointer, batch_stride, head_stride, heads):
    """Return the pointer to this program's head."""
    index = tl.program_id(1)
    return pointer + (index // heads).to(tl.int64) * batch_stride + (index % heads).to(tl.int64) * head_stride


@triton.jit
@no_type_check
def load_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, MASKED: tl.constexpr):
    """Return a block of rows, with zeros beyond the edges."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    if MASKED:
        return tl.load(pointers, mask=(rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE), other=0.0)
    elif features.shape[0] == HEAD_SIZE:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=features[None, :] < HEAD_SIZE, other=0.0)


@triton.jit
@no_type_check
def store_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, values):
    """Write what lies within the edges of a block of rows."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    inside = (rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE)
    tl.store(pointers, values.to(pointer.dtype.element_ty), mask=inside)
