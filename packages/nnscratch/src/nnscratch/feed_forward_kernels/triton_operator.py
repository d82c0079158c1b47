"""A feed-forward network with squared ReLU whose activation costs no pass over memory, for GPUs.

The two operators, which torch.compile keeps, are the two products that an elementwise step follows.
"""

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.autocast import cast_for_autocast, product_dtype

MULTIPLE = 16
"""Divisor of both widths, so that each copy from memory is of 16 bytes or more."""
FEWEST_ROWS = 128
"""Fewer rows, as in decoding, do not fill a tile."""
_HAS_TRITON = find_spec("triton") is not None  # Asked here, because torch.compile could not trace the question.
_DTYPES = (torch.float16, torch.bfloat16)


class Tiles(NamedTuple):
    """Block sizes of the product and how a program executes them."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int
    """Depth of the software pipeline."""


LARGE_TILES = Tiles(128, 256, 64, 8, 4)
"""For data-center GPUs from Hopper on, with 227 KiB of on-chip memory for a program."""
SMALL_TILES = Tiles(128, 128, 32, 4, 4)
"""For other GPUs, of which most have 99 KiB."""


def can_fuse_relu_squared(
    x: Float[Tensor, "*batch width"], w1: Float[Tensor, "d_ff d_in"], w2: Float[Tensor, "d_out d_ff"]
) -> bool:
    """Return whether `fused_relu_squared` supports these inputs: enough rows on a GPU, in dtype and sizes.

    The GPU has compute capability 8.0 or later, which has tensor cores for bfloat16. Products are in bfloat16 or
    float16, by autocast or because the inputs are. Widths are multiples of 16.
    """
    if not (x.is_cuda and _HAS_TRITON and x.numel() >= FEWEST_ROWS * x.shape[-1]):
        return False
    dtype = product_dtype(x)
    return (
        dtype in _DTYPES
        and all(product_dtype(weight) == dtype for weight in (w1, w2))
        and x.shape[-1] == w1.shape[1]  # Plain code reports it.
        and all(size > 0 and size % MULTIPLE == 0 for size in (*w1.shape, *w2.shape))
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )


def fused_relu_squared(
    x: Float[Tensor, "*batch d_in"], w1: Float[Tensor, "d_ff d_in"], w2: Float[Tensor, "d_out d_ff"]
) -> Float[Tensor, "*batch d_out"]:
    """Return max(x w1ᵀ, 0)² w2ᵀ for inputs that `can_fuse_relu_squared` accepts (So et al. 2021, Primer).

    The square h = max(z, 0)² is computed from z = x w1ᵀ in float32 and rounded once. Plain code rounds z first and the
    square again, so its relative error is up to three times as large. The backward pass keeps h alone, which the
    gradient of `w2` needs in any case, and takes max(z, 0) as sqrt(h): the root halves the relative error of h.

    In float16, h is 0 where z is below 1.7e-4, and infinite where z exceeds 256. The latter is so in plain code, too;
    the former makes the gradient of such a z zero. In bfloat16, which has the range of float32, neither happens.
    """
    x, w1, w2 = cast_for_autocast(x, w1, w2)
    result: Tensor = _FusedReLUSquared.apply(x.reshape(-1, x.shape[-1]), w1, w2)
    return result.view(*x.shape[:-1], w2.shape[0])


class _FusedReLUSquared(torch.autograd.Function):
    """The network on (rows, d_in), by two of our products and four of torch's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        hidden = _forward(x, w1)
        ctx.save_for_backward(x, w1, w2, hidden)
        return hidden @ w2.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, w2, hidden = ctx.saved_tensors
        (grad,) = grad_outputs
        needs_x, needs_w1, needs_w2 = ctx.needs_input_grad
        w2_grad = grad.T @ hidden if needs_w2 else None
        if not (needs_x or needs_w1):
            return None, None, w2_grad
        grad = _backward(grad, w2, hidden)
        return grad @ w1 if needs_x else None, grad.T @ x if needs_w1 else None, w2_grad


def _launch(x: Tensor, weight: Tensor, hidden: Tensor | None, result: Tensor) -> None:
    """Run the kernel; the weight is (inner, columns) with any strides of which one is 1.

    Triton launches on the current device, which may differ from the device of the tensors.
    """
    import triton

    from nnscratch.feed_forward_kernels.triton_kernels import product_kernel

    x = x if x.stride(1) == 1 else x.contiguous()
    (rows, inner), columns = x.shape, weight.shape[1]
    tiles = LARGE_TILES if _has_large_memory(x) else SMALL_TILES
    with torch.cuda.device_of(x):
        product_kernel[(triton.cdiv(rows, tiles.rows) * triton.cdiv(columns, tiles.columns),)](
            x,
            weight,
            hidden,
            result,
            rows,
            columns,
            inner,
            x.stride(0),
            weight.stride(1),
            weight.stride(0),
            BACKWARD=hidden is not None,
            EVEN=inner % tiles.inner == 0,
            ROWS=tiles.rows,
            COLUMNS=tiles.columns,
            INNER=tiles.inner,
            num_warps=tiles.warps,
            num_stages=tiles.stages,
        )


def _has_large_memory(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.get_device_capability(tensor.device)[0] in (9, 10)


@torch.library.custom_op("nnscratch::relu_squared_product", mutates_args=())
def _forward(x: Tensor, weight: Tensor) -> Tensor:
    """Return max(x weightᵀ, 0)², (rows, d_ff)."""
    result = x.new_empty(x.shape[0], weight.shape[0])
    _launch(x, weight.contiguous().T, None, result)
    return result


@_forward.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.custom_op("nnscratch::relu_squared_product_backward", mutates_args=())
def _backward(grad: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
    """Return (grad weight) · 2 sqrt(hidden), (rows, d_ff): the gradient before the square."""
    result = hidden.new_empty(hidden.shape)
    _launch(grad, weight.contiguous(), hidden.contiguous(), result)
    return result


@_backward.register_fake
def _(grad: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
    return hidden.new_empty(hidden.shape)
