"""Triton kernel of causal flash attention's forward pass, with scores in on-chip memory only.

The kernel computes the online softmax (Milakov and Gimelshein 2018) as arranged in FlashAttention-2 (Dao 2023,
algorithm 1). Exponentials are powers of two, and the factor log2(e) is part of `scale_for_exp2`. Query i is at position
i + keys - queries and attends to the keys up to there. Each program handles one block of queries of one head. Only
blocks on the diagonal and blocks beyond an edge are masked.
"""

from typing import no_type_check  # Triton compiles the source, so a shape checker must not wrap it.

import triton
import triton.language as tl

from nnscratch.attention_kernels.triton_blocks import (
    head_pointer,
    load_rows,
    program_of,
    shared_head_pointer,
    store_rows,
)


@triton.jit
@no_type_check
def _forward_blocks(
    q, k_pointer, v_pointer, k_row, v_row, rows, features, maximum, total, gathered,
    begin, end, offset, keys, scale_for_exp2,
    MASKED: tl.constexpr, HEAD_SIZE: tl.constexpr, PRECISION: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Add the keys from `begin` to `end` to the running maximum, sum and weighted values of a block of queries."""
    for start in range(begin, end, KEY_BLOCK):
        columns = start + tl.arange(0, KEY_BLOCK)
        k = load_rows(k_pointer, k_row, columns, features, keys, HEAD_SIZE, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_for_exp2
        if MASKED:
            scores = tl.where(columns[None, :] <= rows[:, None] + offset, scores, -float("inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.exp2(scores - new_maximum[:, None])
        shrink = tl.exp2(maximum - new_maximum)
        total = total * shrink + tl.sum(weights, 1)
        v = load_rows(v_pointer, v_row, columns, features, keys, HEAD_SIZE, MASKED)
        gathered = tl.dot(weights.to(v.dtype), v, gathered * shrink[:, None], input_precision=PRECISION)
        maximum = new_maximum
    return maximum, total, gathered


# Not specialized on lengths: generation and a text's last window have lengths of any divisibility.
@triton.jit(do_not_specialize=["queries", "keys"])
@no_type_check
def forward_kernel(
    q_pointer, k_pointer, v_pointer, output_pointer, normalizer_pointer,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    output_batch, output_head, output_row,
    heads, group, queries, keys, scale_for_exp2,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Store the outputs of a block of queries, and the base-2 logarithm of each row's sum of exponentials.

    `group` adjacent heads of queries share one of keys and values. `scale_for_exp2` is log2(e) / sqrt(d_k). FEATURES is
    HEAD_SIZE rounded up to a power of two.
    """
    # The last blocks have the most keys, so they start first.
    index, block, blocks = program_of(queries, QUERY_BLOCK)
    first = (blocks - 1 - block) * QUERY_BLOCK
    rows = first + tl.arange(0, QUERY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    q = load_rows(
        head_pointer(q_pointer, q_batch, q_head, heads, index), q_row, rows, features, queries, HEAD_SIZE, True
    )
    k_pointer = shared_head_pointer(k_pointer, k_batch, k_head, heads, group, index)
    v_pointer = shared_head_pointer(v_pointer, v_batch, v_head, heads, group, index)
    maximum = tl.full((QUERY_BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((QUERY_BLOCK,), tl.float32)
    gathered = tl.zeros((QUERY_BLOCK, FEATURES), tl.float32)
    all_visible = (first + offset + 1) // KEY_BLOCK * KEY_BLOCK
    end = tl.minimum(keys, first + QUERY_BLOCK + offset)
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, features, maximum, total, gathered,
        0, all_visible, offset, keys, scale_for_exp2, False, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, features, maximum, total, gathered,
        all_visible, end, offset, keys, scale_for_exp2, True, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    output_pointer = head_pointer(output_pointer, output_batch, output_head, heads, index)
    store_rows(output_pointer, output_row, rows, features, queries, HEAD_SIZE, gathered / total[:, None])
    normalizer_pointer += index.to(tl.int64) * queries
    tl.store(normalizer_pointer + rows, maximum + tl.log2(total), mask=rows < queries)
