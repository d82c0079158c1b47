"""Triton kernels of causal flash attention: blocks of scores live on the chip, and never all of them at once.

The forward pass is the online softmax (Milakov and Gimelshein 2018) as arranged in FlashAttention-2 (Dao 2023,
algorithm 1); the backward pass computes the scores anew from each row's log-sum-exp (algorithm 2). Exponentials are
powers of two, whose logarithm's factor is part of the scale. Tensors are (batch, heads, positions, features) with any
strides but the last, which is 1. Query i stands at position i + keys - queries and sees the keys up to there. A
program handles one block of positions of one head; only blocks on the diagonal and those beyond an edge are masked.
"""

from typing import no_type_check  # a checker of shapes may not wrap what Triton reads

import triton
import triton.language as tl

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
@no_type_check
def _head(pointer, batch_stride, head_stride, heads):
    """Return the pointer to this program's head."""
    index = tl.program_id(1)
    return pointer + (index // heads).to(tl.int64) * batch_stride + (index % heads).to(tl.int64) * head_stride


@triton.jit
@no_type_check
def _load(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, MASKED: tl.constexpr):
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
def _store(pointer, stride, rows, features, row_count, HEAD_SIZE: tl.constexpr, values):
    """Write what lies within the edges of a block of rows."""
    pointers = pointer + rows[:, None].to(tl.int64) * stride + features[None, :]
    inside = (rows[:, None] < row_count) & (features[None, :] < HEAD_SIZE)
    tl.store(pointers, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _forward_blocks(
    q,
    k_pointer,
    v_pointer,
    k_row,
    v_row,
    rows,
    features,
    maximum,
    total,
    gathered,
    begin,
    end,
    offset,
    keys,
    scale,
    MASKED: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Add the keys from `begin` to `end` to the running maximum, sum and weighted values of a block of queries."""
    for start in range(begin, end, KEY_BLOCK):
        columns = start + tl.arange(0, KEY_BLOCK)
        k = _load(k_pointer, k_row, columns, features, keys, HEAD_SIZE, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if MASKED:
            scores = tl.where(columns[None, :] <= rows[:, None] + offset, scores, -float("inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.exp2(scores - new_maximum[:, None])
        shrink = tl.exp2(maximum - new_maximum)
        total = total * shrink + tl.sum(weights, 1)
        v = _load(v_pointer, v_row, columns, features, keys, HEAD_SIZE, MASKED)
        gathered = tl.dot(weights.to(v.dtype), v, gathered * shrink[:, None], input_precision=PRECISION)
        maximum = new_maximum
    return maximum, total, gathered


@triton.jit
@no_type_check
def forward_kernel(
    q_pointer,
    k_pointer,
    v_pointer,
    output_pointer,
    normalizer_pointer,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    output_batch,
    output_head,
    output_row,
    heads,
    queries,
    keys,
    scale,
    HEAD_SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Write the outputs of a block of queries, and the base-2 logarithm of each row's sum of exponentials.

    `scale` is log2(e) / sqrt(d_k); FEATURES is HEAD_SIZE rounded up to a power of two.
    """
    # The last blocks have the most keys to look at, so they go first.
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERY_BLOCK
    rows = first + tl.arange(0, QUERY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    q = _load(_head(q_pointer, q_batch, q_head, heads), q_row, rows, features, queries, HEAD_SIZE, True)
    k_pointer = _head(k_pointer, k_batch, k_head, heads)
    v_pointer = _head(v_pointer, v_batch, v_head, heads)
    maximum = tl.full((QUERY_BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((QUERY_BLOCK,), tl.float32)
    gathered = tl.zeros((QUERY_BLOCK, FEATURES), tl.float32)
    all_visible = (first + offset + 1) // KEY_BLOCK * KEY_BLOCK
    end = tl.minimum(keys, first + QUERY_BLOCK + offset)
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, features, maximum, total, gathered,
        0, all_visible, offset, keys, scale, False, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    maximum, total, gathered = _forward_blocks(
        q, k_pointer, v_pointer, k_row, v_row, rows, features, maximum, total, gathered,
        all_visible, end, offset, keys, scale, True, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    output_pointer = _head(output_pointer, output_batch, output_head, heads)
    _store(output_pointer, output_row, rows, features, queries, HEAD_SIZE, gathered / total[:, None])
    normalizer_pointer += tl.program_id(1).to(tl.int64) * queries
    tl.store(normalizer_pointer + rows, maximum + tl.log2(total), mask=rows < queries)


@triton.jit
@no_type_check
def row_sums_kernel(
    output_pointer,
    grad_pointer,
    sums_pointer,
    output_batch,
    output_head,
    output_row,
    grad_batch,
    grad_head,
    grad_row,
    heads,
    queries,
    HEAD_SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
):
    """Write each row's sum of output · gradient, which the softmax takes off every weight's gradient."""
    rows = tl.program_id(0) * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    features = tl.arange(0, FEATURES)
    output_pointer = _head(output_pointer, output_batch, output_head, heads)
    grad_pointer = _head(grad_pointer, grad_batch, grad_head, heads)
    output = _load(output_pointer, output_row, rows, features, queries, HEAD_SIZE, True)
    grad = _load(grad_pointer, grad_row, rows, features, queries, HEAD_SIZE, True)
    sums = tl.sum(output.to(tl.float32) * grad.to(tl.float32), 1)
    tl.store(sums_pointer + tl.program_id(1).to(tl.int64) * queries + rows, sums, mask=rows < queries)


@triton.jit
@no_type_check
def _weights_and_gradient(
    q,
    k,
    v,
    grad,
    normalizers,
    sums,
    rows,
    columns,
    offset,
    scale,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return a block of softmax weights and the gradient with respect to their scores, queries by keys."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if MASKED:
        scores = tl.where(columns[None, :] <= rows[:, None] + offset, scores, -float("inf"))
    weights = tl.exp2(scores - normalizers[:, None])
    weight_grad = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
    return weights, weights * (weight_grad - sums[:, None])


@triton.jit
@no_type_check
def _query_blocks(
    k,
    v,
    q_pointer,
    grad_pointer,
    normalizer_pointer,
    sums_pointer,
    q_row,
    grad_row,
    columns,
    features,
    k_grad,
    v_grad,
    begin,
    end,
    offset,
    queries,
    scale,
    MASKED: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
):
    """Add what the queries from `begin` to `end` contribute to the gradients of a block of keys and values."""
    for start in range(begin, end, QUERY_BLOCK):
        rows = start + tl.arange(0, QUERY_BLOCK)
        q = _load(q_pointer, q_row, rows, features, queries, HEAD_SIZE, True)
        grad = _load(grad_pointer, grad_row, rows, features, queries, HEAD_SIZE, True)
        # A normaliser of infinity gives rows beyond the last query weights of 0.
        normalizers = tl.load(normalizer_pointer + rows, mask=rows < queries, other=float("inf"))
        sums = tl.load(sums_pointer + rows, mask=rows < queries, other=0.0)
        weights, score_grad = _weights_and_gradient(
            q, k, v, grad, normalizers, sums, rows, columns, offset, scale, MASKED, PRECISION
        )
        v_grad = tl.dot(tl.trans(weights.to(grad.dtype)), grad, v_grad, input_precision=PRECISION)
        k_grad = tl.dot(tl.trans(score_grad.to(q.dtype)), q, k_grad, input_precision=PRECISION)
    return k_grad, v_grad


@triton.jit
@no_type_check
def key_value_gradient_kernel(
    q_pointer,
    k_pointer,
    v_pointer,
    grad_pointer,
    normalizer_pointer,
    sums_pointer,
    k_grad_pointer,
    v_grad_pointer,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    grad_batch,
    grad_head,
    grad_row,
    k_grad_batch,
    k_grad_head,
    k_grad_row,
    v_grad_batch,
    v_grad_head,
    v_grad_row,
    heads,
    queries,
    keys,
    scale,
    HEAD_SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Write the gradients of a block of keys and values, from all queries that see them."""
    first = tl.program_id(0) * KEY_BLOCK
    columns = first + tl.arange(0, KEY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    k = _load(_head(k_pointer, k_batch, k_head, heads), k_row, columns, features, keys, HEAD_SIZE, True)
    v = _load(_head(v_pointer, v_batch, v_head, heads), v_row, columns, features, keys, HEAD_SIZE, True)
    q_pointer = _head(q_pointer, q_batch, q_head, heads)
    grad_pointer = _head(grad_pointer, grad_batch, grad_head, heads)
    normalizer_pointer += tl.program_id(1).to(tl.int64) * queries
    sums_pointer += tl.program_id(1).to(tl.int64) * queries
    k_grad = tl.zeros((KEY_BLOCK, FEATURES), tl.float32)
    v_grad = tl.zeros((KEY_BLOCK, FEATURES), tl.float32)
    # Queries before `begin` see none of these keys, those from `all_visible` on see all of them.
    begin = tl.maximum(first - offset, 0) // QUERY_BLOCK * QUERY_BLOCK
    all_visible = tl.maximum(first + KEY_BLOCK - 1 - offset, 0)
    all_visible = tl.minimum((all_visible + QUERY_BLOCK - 1) // QUERY_BLOCK * QUERY_BLOCK, queries)
    k_grad, v_grad = _query_blocks(
        k, v, q_pointer, grad_pointer, normalizer_pointer, sums_pointer, q_row, grad_row, columns, features,
        k_grad, v_grad, begin, all_visible, offset, queries, scale, True, HEAD_SIZE, PRECISION, QUERY_BLOCK,
    )  # fmt: skip
    k_grad, v_grad = _query_blocks(
        k, v, q_pointer, grad_pointer, normalizer_pointer, sums_pointer, q_row, grad_row, columns, features,
        k_grad, v_grad, all_visible, queries, offset, queries, scale, False, HEAD_SIZE, PRECISION, QUERY_BLOCK,
    )  # fmt: skip
    k_grad_pointer = _head(k_grad_pointer, k_grad_batch, k_grad_head, heads)
    v_grad_pointer = _head(v_grad_pointer, v_grad_batch, v_grad_head, heads)
    _store(k_grad_pointer, k_grad_row, columns, features, keys, HEAD_SIZE, k_grad * (scale * LN_2))
    _store(v_grad_pointer, v_grad_row, columns, features, keys, HEAD_SIZE, v_grad)


@triton.jit
@no_type_check
def _key_blocks(
    q,
    grad,
    normalizers,
    sums,
    k_pointer,
    v_pointer,
    k_row,
    v_row,
    rows,
    features,
    q_grad,
    begin,
    end,
    offset,
    keys,
    scale,
    MASKED: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Add what the keys from `begin` to `end` contribute to the gradient of a block of queries."""
    for start in range(begin, end, KEY_BLOCK):
        columns = start + tl.arange(0, KEY_BLOCK)
        k = _load(k_pointer, k_row, columns, features, keys, HEAD_SIZE, MASKED)
        v = _load(v_pointer, v_row, columns, features, keys, HEAD_SIZE, MASKED)
        _, score_grad = _weights_and_gradient(
            q, k, v, grad, normalizers, sums, rows, columns, offset, scale, MASKED, PRECISION
        )
        q_grad = tl.dot(score_grad.to(k.dtype), k, q_grad, input_precision=PRECISION)
    return q_grad


@triton.jit
@no_type_check
def query_gradient_kernel(
    q_pointer,
    k_pointer,
    v_pointer,
    grad_pointer,
    normalizer_pointer,
    sums_pointer,
    q_grad_pointer,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    grad_batch,
    grad_head,
    grad_row,
    q_grad_batch,
    q_grad_head,
    q_grad_row,
    heads,
    queries,
    keys,
    scale,
    HEAD_SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Write the gradient of a block of queries, from all keys that they see."""
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERY_BLOCK
    rows = first + tl.arange(0, QUERY_BLOCK)
    features = tl.arange(0, FEATURES)
    offset = keys - queries
    q = _load(_head(q_pointer, q_batch, q_head, heads), q_row, rows, features, queries, HEAD_SIZE, True)
    grad = _load(_head(grad_pointer, grad_batch, grad_head, heads), grad_row, rows, features, queries, HEAD_SIZE, True)
    normalizer_pointer += tl.program_id(1).to(tl.int64) * queries
    sums_pointer += tl.program_id(1).to(tl.int64) * queries
    normalizers = tl.load(normalizer_pointer + rows, mask=rows < queries, other=float("inf"))
    sums = tl.load(sums_pointer + rows, mask=rows < queries, other=0.0)
    k_pointer = _head(k_pointer, k_batch, k_head, heads)
    v_pointer = _head(v_pointer, v_batch, v_head, heads)
    q_grad = tl.zeros((QUERY_BLOCK, FEATURES), tl.float32)
    all_visible = (first + offset + 1) // KEY_BLOCK * KEY_BLOCK
    end = tl.minimum(keys, first + QUERY_BLOCK + offset)
    q_grad = _key_blocks(
        q, grad, normalizers, sums, k_pointer, v_pointer, k_row, v_row, rows, features, q_grad,
        0, all_visible, offset, keys, scale, False, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    q_grad = _key_blocks(
        q, grad, normalizers, sums, k_pointer, v_pointer, k_row, v_row, rows, features, q_grad,
        all_visible, end, offset, keys, scale, True, HEAD_SIZE, PRECISION, KEY_BLOCK,
    )  # fmt: skip
    q_grad_pointer = _head(q_grad_pointer, q_grad_batch, q_grad_head, heads)
    _store(q_grad_pointer, q_grad_row, rows, features, queries, HEAD_SIZE, q_grad * (scale * LN_2))
