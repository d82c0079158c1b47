"""Triton functions that all attention kernels share: loading and storing blocks of rows of one head.

Tensors are (batch, heads, positions, features). The last stride is 1, the others are arbitrary.
"""

from typing import no_type_check  # Triton compiles the source, so a shape checker must not wrap it.

import triton
import triton.language as tl


@triton.jit
@no_type_check
def program_of(positions, BLOCK: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return the index of this program's head, the index of its block of positions, and the number of blocks.

    All programs lie on one axis, because CUDA limits the others to 65,535. Programs of one head are neighbors, because
    they read the same keys and values.
    """
    blocks = tl.cdiv(positions, BLOCK)
    return tl.program_id(0) // blocks, tl.program_id(0) % blocks, blocks


@triton.jit
@no_type_check
def head_pointer(pointer, batch_stride, head_stride, heads, index) -> tl.tensor:
    """Return the pointer to the head with this index, counted over all heads of all sequences."""
    return pointer + (index // heads).to(tl.int64) * batch_stride + (index % heads).to(tl.int64) * head_stride


@triton.jit
@no_type_check
def shared_head_pointer(pointer, batch_stride, head_stride, heads, group, index) -> tl.tensor:
    """Return the pointer to the keys or values of the query head with this index; `group` query heads share them."""
    return head_pointer(pointer, batch_stride, head_stride, heads // group, index // group)


@triton.jit
@no_type_check
def visible_keys(rows, columns, first_keys, offset) -> tl.tensor:
    """Return (queries, keys) True where a query attends to a key: not after its position, nor before its first key."""
    visible = columns[None, :] <= rows[:, None] + offset
    if first_keys is not None:
        visible &= columns[None, :] >= first_keys[:, None]
    return visible


@triton.jit
@no_type_check
def key_ranges(
    first_key_pointer, first, offset, queries, keys, QUERY_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Return begin and end of the keys that all queries of a block attend to, those of all others, and the gap in them.

    The gap is the number of keys between the others, and 0 if all of them come after. All but the last end are
    multiples of the size of a block.
    """
    begin = 0
    all_visible = (first + offset + 1) // KEY_BLOCK * KEY_BLOCK
    masked_begin = all_visible
    gap = 0
    if first_key_pointer is not None:
        last = tl.minimum(first + QUERY_BLOCK, queries) - 1
        masked_begin = tl.maximum(tl.load(first_key_pointer + first).to(tl.int32), 0) // KEY_BLOCK * KEY_BLOCK
        begin = tl.cdiv(tl.maximum(tl.load(first_key_pointer + last).to(tl.int32), 0), KEY_BLOCK) * KEY_BLOCK
        begin = tl.minimum(begin, all_visible)
        gap = all_visible - begin
    return begin, all_visible, masked_begin, tl.minimum(keys, first + QUERY_BLOCK + offset), gap


@triton.jit
@no_type_check
def load_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, MASKED: tl.constexpr) -> tl.tensor:
    """Load a block of rows, with zeros beyond the edges."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    if MASKED:
        return tl.load(pointers, mask=(rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE), other=0.0)
    if features.shape[0] == HEAD_SIZE:
        return tl.load(pointers)
    return tl.load(pointers, mask=features[None, :] < HEAD_SIZE, other=0.0)


@triton.jit
@no_type_check
def store_rows(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, values) -> None:
    """Store the part of a block of rows that lies within the edges."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    inside = (rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE)
    tl.store(pointers, values.to(pointer.dtype.element_ty), mask=inside)
