"""Triton kernel of causal flash attention's forward pass, with scores in on-chip memory only.

The kernel computes the online softmax (Milakov and Gimelshein 2018) as arranged in FlashAttention-2 (Dao 2023,
algorithm 1). Exponentials are powers of two, and the factor log2(e) is part of `scale_for_exp2`. Query i is at position
i + keys - queries and attends to the keys up to there, from its first key on if it has one. Each program handles one
block of queries of one head. Only blocks of keys on the diagonal, beyond an edge, or among first keys are masked.
"""

from typing import no_type_check  # Triton compiles the source, so a shape checker must not wrap it.

import triton
import triton.language as tl

from nnscratch.attention_kernels.triton_blocks import (
    head_pointer,
    key_ranges,
    load_rows,
    program_of,
    shared_head_pointer,
    store_rows,
    visible_keys,
)

LOWEST = tl.constexpr(-3.4028234663852886e38)  # of float32


@triton.jit
@no_type_check
def _forward_blocks(
    q, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, maximum, total, gathered,
    begin, end, gap_begin, gap, offset, keys, scale_for_exp2,
    MASKED: tl.constexpr, HEAD_SIZE: tl.constexpr, PRECISION: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Add the keys from `begin` to `end`, except the gap, to the running maximum, sum and values of a block of queries.

    The part before the gap and the part after it share one loop, because a loop for each spills registers.
    """
    for step in range(begin, end - gap, KEY_BLOCK):
        start = step
        if MASKED and first_keys is not None:
            start += tl.where(step >= gap_begin, gap, 0)
        columns = start + tl.arange(0, KEY_BLOCK)
        k = load_rows(k_pointer, k_row, columns, features, keys, HEAD_SIZE, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_for_exp2
        if MASKED:
            scores = tl.where(visible_keys(rows, columns, first_keys, offset), scores, -float("inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.exp2(scores - new_maximum[:, None])
        shrink = tl.exp2(maximum - new_maximum)
        total = total * shrink + tl.sum(weights, 1)
        v = load_rows(v_pointer, v_row, columns, features, keys, HEAD_SIZE, MASKED)
        gathered = tl.dot(weights.to(v.dtype), v, gathered * shrink[:, None], input_precision=PRECISION)
        maximum = new_maximum
    return maximum, total, gathered


# Not specialized on lengths: generation and a text's last window have lengths of any divisibility. Strides are, because
# copies of 16 bytes depend on it, and they are multiples of 16 where the head size is. First keys may be a slice.
@triton.jit(do_not_specialize=["queries", "keys", "first_key_pointer", "first_key_batch"])
@no_type_check
def forward_kernel(
    q_pointer, k_pointer, v_pointer, first_key_pointer, output_pointer, normalizer_pointer,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    first_key_batch,
    output_batch, output_head, output_row,
    heads, group, queries, keys, scale_for_exp2,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Store the outputs of a block of queries, and the base-2 logarithm of each row's sum of exponentials.

    `group` adjacent heads of queries share one of keys and values. Without first keys their pointer is None.
    `scale_for_exp2` is log2(e) / sqrt(d_k). FEATURES is HEAD_SIZE rounded up to a power of two.
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
    # Not -inf, because all keys of a row's first block may be before its first key.
    maximum = tl.full((QUERY_BLOCK,), LOWEST, tl.float32)
    total = tl.zeros((QUERY_BLOCK,), tl.float32)
    gathered = tl.zeros((QUERY_BLOCK, FEATURES), tl.float32)
    first_keys = None
    if first_key_pointer is not None:
        first_key_pointer += (index // heads).to(tl.int64) * first_key_batch
        first_keys = tl.load(first_key_pointer + rows, mask=rows < queries, other=0).to(tl.int32)
    begin, all_visible, masked_begin, end, gap = key_ranges(
        first_key_pointer, first, offset, queries, keys, QUERY_BLOCK, KEY_BLOCK
    )
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, maximum, total, gathered,
        begin, all_visible, begin, 0, offset, keys, scale_for_exp2, False, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, maximum, total, gathered,
        masked_begin, end, begin, gap, offset, keys, scale_for_exp2,
        True, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    output_pointer = head_pointer(output_pointer, output_batch, output_head, heads, index)
    store_rows(output_pointer, output_row, rows, features, queries, HEAD_SIZE, gathered / total[:, None])
    normalizer_pointer += index.to(tl.int64) * queries
    tl.store(normalizer_pointer + rows, maximum + tl.log2(total), mask=rows < queries)
