"""Triton kernels of causal flash attention's backward pass, which recompute the scores from each row's log-sum-exp.

The algorithm is FlashAttention-2's (Dao 2023, algorithm 2), with one kernel for keys and values and one for queries, so
that no program waits for the sums of another. That for queries runs first, because it also stores each row's sum of
output · gradient, which the softmax subtracts from the gradients of its weights. `triton_forward` explains scales and
positions.
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

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
@no_type_check
def _query_blocks(
    k, v, q_pointer, grad_pointer, normalizer_pointer, sums_pointer,
    q_batch, q_head, q_row, grad_batch, grad_head, grad_row, columns, query_ends, features,
    k_grad, v_grad, begin, end, gap_begin, gap, index, heads, group, offset, queries, scale_for_exp2,
    MASKED: tl.constexpr, HEAD_SIZE: tl.constexpr, PRECISION: tl.constexpr, QUERY_BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Add what the queries from `begin` to `end`, except the gap, of all heads of the group give to some gradients."""
    # One loop over heads and blocks, because two nested ones spill registers.
    blocks = tl.cdiv(end - begin - gap, QUERY_BLOCK)
    for step in range(group * blocks):
        query_head = index * group + step // blocks
        head_q = head_pointer(q_pointer, q_batch, q_head, heads, query_head)
        head_grad = head_pointer(grad_pointer, grad_batch, grad_head, heads, query_head)
        first = query_head.to(tl.int64) * queries
        start = begin + step % blocks * QUERY_BLOCK
        if MASKED and query_ends is not None:
            start += tl.where(start >= gap_begin, gap, 0)
        rows = start + tl.arange(0, QUERY_BLOCK)
        q = load_rows(head_q, q_row, rows, features, queries, HEAD_SIZE, True)
        grad = load_rows(head_grad, grad_row, rows, features, queries, HEAD_SIZE, True)
        # A normalizer of infinity gives rows beyond the last query weights of 0.
        normalizers = tl.load(normalizer_pointer + first + rows, mask=rows < queries, other=float("inf"))
        sums = tl.load(sums_pointer + first + rows, mask=rows < queries, other=0.0)
        # (keys, queries): transposing a computed matrix for a product would take it through shared memory.
        scores = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale_for_exp2
        if MASKED:
            visible = columns[:, None] <= rows[None, :] + offset
            if query_ends is not None:
                visible &= rows[None, :] < query_ends[:, None]
            scores = tl.where(visible, scores, -float("inf"))
        weights = tl.exp2(scores - normalizers[None, :])
        v_grad = tl.dot(weights.to(grad.dtype), grad, v_grad, input_precision=PRECISION)
        weight_grad = tl.dot(v, tl.trans(grad), input_precision=PRECISION)
        score_grad = (weights * (weight_grad - sums[None, :])).to(q.dtype)
        k_grad = tl.dot(score_grad, q, k_grad, input_precision=PRECISION)
    return k_grad, v_grad


@triton.jit(do_not_specialize=["queries", "keys", "query_end_batch"])
@no_type_check
def key_value_gradient_kernel(
    q_pointer, k_pointer, v_pointer, query_end_pointer, grad_pointer, normalizer_pointer, sums_pointer,
    k_grad_pointer, v_grad_pointer,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    query_end_batch,
    grad_batch, grad_head, grad_row,
    k_grad_batch, k_grad_head, k_grad_row,
    v_grad_batch, v_grad_head, v_grad_row,
    heads, group, queries, keys, scale_for_exp2,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Store the gradients of a block of keys and values, from all queries of the `group` heads that share them.

    With first keys there is an index for each key at which the queries that attend to it end, else the pointer is None.
    """
    index, block, _ = program_of(keys, KEY_BLOCK)
    kv_heads = heads // group
    first = block * KEY_BLOCK
    columns = first + tl.arange(0, KEY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    k = load_rows(
        head_pointer(k_pointer, k_batch, k_head, kv_heads, index), k_row, columns, features, keys, HEAD_SIZE, True
    )
    v = load_rows(
        head_pointer(v_pointer, v_batch, v_head, kv_heads, index), v_row, columns, features, keys, HEAD_SIZE, True
    )
    k_grad = tl.zeros((KEY_BLOCK, FEATURES), tl.float32)
    v_grad = tl.zeros((KEY_BLOCK, FEATURES), tl.float32)
    # Queries before `begin` and from `end` on attend to none of these keys, queries between the others to all of them.
    begin = tl.maximum(first - offset, 0) // QUERY_BLOCK * QUERY_BLOCK
    all_visible = tl.maximum(first + KEY_BLOCK - 1 - offset, 0)
    all_visible = tl.minimum((all_visible + QUERY_BLOCK - 1) // QUERY_BLOCK * QUERY_BLOCK, queries)
    unmasked_end = queries
    end = all_visible
    gap = 0
    query_ends = None
    if query_end_pointer is not None:
        query_end_pointer += (index // kv_heads).to(tl.int64) * query_end_batch
        query_ends = tl.load(query_end_pointer + columns, mask=columns < keys, other=0)
        end = tl.load(query_end_pointer + tl.minimum(first + KEY_BLOCK, keys) - 1)
        all_visible = tl.minimum(all_visible, end)
        unmasked_end = tl.maximum(tl.load(query_end_pointer + first) // QUERY_BLOCK * QUERY_BLOCK, all_visible)
        gap = unmasked_end - all_visible
    k_grad, v_grad = _query_blocks(
        k, v, q_pointer, grad_pointer, normalizer_pointer, sums_pointer,
        q_batch, q_head, q_row, grad_batch, grad_head, grad_row, columns, query_ends, features, k_grad, v_grad,
        begin, end, all_visible, gap, index, heads, group, offset, queries, scale_for_exp2,
        True, HEAD_SIZE, PRECISION, QUERY_BLOCK,
    )  # fmt: skip
    k_grad, v_grad = _query_blocks(
        k, v, q_pointer, grad_pointer, normalizer_pointer, sums_pointer,
        q_batch, q_head, q_row, grad_batch, grad_head, grad_row, columns, query_ends, features, k_grad, v_grad,
        all_visible, unmasked_end, all_visible, 0, index, heads, group, offset, queries, scale_for_exp2,
        False, HEAD_SIZE, PRECISION, QUERY_BLOCK,
    )  # fmt: skip
    k_grad_pointer = head_pointer(k_grad_pointer, k_grad_batch, k_grad_head, kv_heads, index)
    v_grad_pointer = head_pointer(v_grad_pointer, v_grad_batch, v_grad_head, kv_heads, index)
    store_rows(k_grad_pointer, k_grad_row, columns, features, keys, HEAD_SIZE, k_grad * (scale_for_exp2 * LN_2))
    store_rows(v_grad_pointer, v_grad_row, columns, features, keys, HEAD_SIZE, v_grad)


@triton.jit
@no_type_check
def _key_blocks(
    q, grad, normalizers, sums, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, q_grad,
    begin, end, gap_begin, gap, offset, keys, scale_for_exp2,
    MASKED: tl.constexpr, HEAD_SIZE: tl.constexpr, PRECISION: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Add the contribution of the keys from `begin` to `end`, except the gap, to the gradient of a block of queries."""
    for step in range(begin, end - gap, KEY_BLOCK):
        start = step
        if MASKED and first_keys is not None:
            start += tl.where(step >= gap_begin, gap, 0)
        columns = start + tl.arange(0, KEY_BLOCK)
        k = load_rows(k_pointer, k_row, columns, features, keys, HEAD_SIZE, MASKED)
        v = load_rows(v_pointer, v_row, columns, features, keys, HEAD_SIZE, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_for_exp2
        if MASKED:
            scores = tl.where(visible_keys(rows, columns, first_keys, offset), scores, -float("inf"))
        weights = tl.exp2(scores - normalizers[:, None])
        weight_grad = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
        score_grad = weights * (weight_grad - sums[:, None])
        q_grad = tl.dot(score_grad.to(k.dtype), k, q_grad, input_precision=PRECISION)
    return q_grad


@triton.jit(do_not_specialize=["queries", "keys", "first_key_pointer", "first_key_batch"])
@no_type_check
def query_gradient_kernel(
    q_pointer, k_pointer, v_pointer, first_key_pointer, output_pointer, grad_pointer, normalizer_pointer,
    sums_pointer, q_grad_pointer,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    first_key_batch,
    output_batch, output_head, output_row,
    grad_batch, grad_head, grad_row,
    q_grad_batch, q_grad_head, q_grad_row,
    heads, group, queries, keys, scale_for_exp2,
    HEAD_SIZE: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Store the gradient of a block of queries, from all keys that they attend to, and the sums of their rows."""
    index, block, blocks = program_of(queries, QUERY_BLOCK)
    first = (blocks - 1 - block) * QUERY_BLOCK
    rows = first + tl.arange(0, QUERY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    q = load_rows(
        head_pointer(q_pointer, q_batch, q_head, heads, index), q_row, rows, features, queries, HEAD_SIZE, True
    )
    grad_pointer = head_pointer(grad_pointer, grad_batch, grad_head, heads, index)
    grad = load_rows(grad_pointer, grad_row, rows, features, queries, HEAD_SIZE, True)
    output_pointer = head_pointer(output_pointer, output_batch, output_head, heads, index)
    output = load_rows(output_pointer, output_row, rows, features, queries, HEAD_SIZE, True)
    sums = tl.sum(output.to(tl.float32) * grad.to(tl.float32), 1)
    tl.store(sums_pointer + index.to(tl.int64) * queries + rows, sums, mask=rows < queries)
    normalizer_pointer += index.to(tl.int64) * queries
    normalizers = tl.load(normalizer_pointer + rows, mask=rows < queries, other=float("inf"))
    k_pointer = shared_head_pointer(k_pointer, k_batch, k_head, heads, group, index)
    v_pointer = shared_head_pointer(v_pointer, v_batch, v_head, heads, group, index)
    q_grad = tl.zeros((QUERY_BLOCK, FEATURES), tl.float32)
    first_keys = None
    if first_key_pointer is not None:
        first_key_pointer += (index // heads).to(tl.int64) * first_key_batch
        first_keys = tl.load(first_key_pointer + rows, mask=rows < queries, other=0).to(tl.int32)
    begin, all_visible, masked_begin, end, gap = key_ranges(
        first_key_pointer, first, offset, queries, keys, QUERY_BLOCK, KEY_BLOCK
    )
    q_grad = _key_blocks(
        q, grad, normalizers, sums, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, q_grad,
        begin, all_visible, begin, 0, offset, keys, scale_for_exp2, False, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    q_grad = _key_blocks(
        q, grad, normalizers, sums, k_pointer, v_pointer, k_row, v_row, rows, first_keys, features, q_grad,
        masked_begin, end, begin, gap, offset, keys, scale_for_exp2,
        True, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    q_grad_pointer = head_pointer(q_grad_pointer, q_grad_batch, q_grad_head, heads, index)
    store_rows(q_grad_pointer, q_grad_row, rows, features, queries, HEAD_SIZE, q_grad * (scale_for_exp2 * LN_2))
