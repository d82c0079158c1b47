"""Triton kernel of a matrix product that ends with squared ReLU, or with its derivative.

Each program computes one tile of the result, walks over the inner dimension, and sums in float32. The elementwise step
acts on these sums, before they are rounded, so only its result is written.
"""

from typing import no_type_check  # Triton compiles the source, so a shape checker must not wrap it.

import triton
import triton.language as tl

GROUP = tl.constexpr(8)


@triton.jit
@no_type_check
def _tile(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the row and column at which this program's tile begins.

    Programs that run at the same time share GROUP blocks of rows, and so find what they read in the cache.
    """
    blocks = tl.cdiv(rows, ROWS)
    group_programs = GROUP * tl.cdiv(columns, COLUMNS)
    first = tl.program_id(0) // group_programs * GROUP
    size = tl.minimum(blocks - first, GROUP)
    place = tl.program_id(0) % group_programs
    return (first + place % size) * ROWS, place // size * COLUMNS


@triton.jit
@no_type_check
def _store_part(total, row, column, hidden_pointer, result_pointer, rows, columns, BACKWARD: tl.constexpr):
    """Store what the elementwise step makes of some columns of a tile."""
    exists = (row < rows)[:, None] & (column < columns)[None, :]
    places = row.to(tl.int64)[:, None] * columns + column[None, :]
    if BACKWARD:
        hidden = tl.load(hidden_pointer + places, exists, 0.0).to(tl.float32)
        total = total * (2 * tl.sqrt(hidden))
    else:
        positive = tl.where(total < 0, 0.0, total)  # unlike a maximum, it keeps NaN
        total = positive * positive
    tl.store(result_pointer + places, total.to(result_pointer.dtype.element_ty), exists)


# Not specialized on the number of rows: batches may have any. The other sizes are multiples of 16, which copies need.
@triton.jit(do_not_specialize=["rows"])
@no_type_check
def product_kernel(
    x_pointer, weight_pointer, hidden_pointer, result_pointer,
    rows, columns, inner, x_row, weight_column, weight_inner,
    BACKWARD: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
) -> None:  # fmt: skip
    """Store max(p, 0)² for the product p of x (rows, inner) and a weight, of which each column has `inner` numbers.

    With BACKWARD, store p · 2 sqrt(hidden) instead: the derivative of max(z, 0)² is 2 max(z, 0), and `hidden` is this
    square. EVEN tells that INNER divides `inner`.
    """
    first_row, first_column = _tile(rows, columns, ROWS, COLUMNS)
    row = first_row + tl.arange(0, ROWS)
    column = first_column + tl.arange(0, COLUMNS)
    step = tl.arange(0, INNER)
    # Beyond the edges a tile reads other rows and columns again, which is cheaper than a mask, and does not store them.
    x = x_pointer + (row % rows).to(tl.int64)[:, None] * x_row + step[None, :]
    weight = weight_pointer + step[:, None] * weight_inner + (column % columns)[None, :] * weight_column
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for begin in range(0, inner, INNER):
        if EVEN:
            a, b = tl.load(x), tl.load(weight)
        else:
            a = tl.load(x, (step < inner - begin)[None, :], 0.0)
            b = tl.load(weight, (step < inner - begin)[:, None], 0.0)
        total = tl.dot(a, b, total)
        x += INNER
        weight += INNER * weight_inner
    # In two parts, because the conversion of a whole tile for the store spills registers.
    left, right = tl.split(tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))
    column = first_column + tl.arange(0, COLUMNS // 2)
    _store_part(left, row, column, hidden_pointer, result_pointer, rows, columns, BACKWARD)
    _store_part(right, row, column + COLUMNS // 2, hidden_pointer, result_pointer, rows, columns, BACKWARD)
