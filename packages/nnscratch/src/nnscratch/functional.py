"""Stateless functions behind the layers, in the form that runs fastest.

Each docstring gives the formula, and `nnscratch.reference` the plain code. The code here may differ: torch is slow on a
CPU at some of the obvious forms, and hand-written backward passes keep fewer tensors and read them fewer times than
autograd would.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import id_error
from nnscratch.autocast import at_least_float32


def linear(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    """Return x Wᵀ."""
    return _linear_in_parts(x, weight) if _is_decoding_step(x, weight) else x @ weight.T


def _is_decoding_step(x: Tensor, weight: Tensor) -> bool:
    """Return whether a few vectors meet a large weight in float32 on a CPU, with neither gradients nor a compiler."""
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() <= 32 * x.shape[-1]
        and weight.numel() >= 2**14
        and weight.shape[0] % 4 == 0
        and not torch.is_autocast_enabled("cpu")
    )


def _linear_in_parts(x: Tensor, weight: Tensor) -> Tensor:
    """Return x Wᵀ with W as a batch of four parts, which Intel's library reads up to five times as fast as one."""
    d_out, d_in = weight.shape
    columns = x.reshape(-1, d_in).T
    products = torch.bmm(weight.view(4, -1, d_in), columns.expand(4, -1, -1)).view(d_out, columns.shape[1])
    return products.T.reshape(*x.shape[:-1], d_out)


def embedding(
    token_ids: Int[Tensor, "*batch"], weight: Float[Tensor, "num_embeddings d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Return weight[token_ids].

    Raises:
        IndexError: If an id is outside the table (on a GPU, a device error).
    """
    if torch.compiler.is_compiling():  # The compiler may look such rows up again, but keeps those of index_select.
        return weight[token_ids.long()]
    try:  # On a CPU the backward pass of index_select is about three times as fast as that of plain indexing.
        rows = weight.index_select(0, token_ids.reshape(-1))
    except IndexError as error:
        raise id_error("token_ids", token_ids, weight.shape[0]) from error
    return rows.view(*token_ids.shape, weight.shape[1])


def sparse_embedding(
    token_ids: Int[Tensor, "*batch"], weight: Float[Tensor, "num_embeddings d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Return weight[token_ids], as `embedding` does, with a sparse gradient of the rows that were looked up.

    On a CPU the gradient of `weight` is a COO tensor with each row once, so its size depends on the ids and not on the
    table. It is dense on other devices, where finding the rows would make the host wait and NCCL and MPS lack sparse
    tensors, and under `torch.compile`, which has no sparse gradients.

    Raises:
        IndexError: If an id is outside the table (on a GPU, a device error).
    """
    if weight.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return embedding(token_ids, weight)
    return _SparseEmbedding.apply(token_ids, weight)


class _SparseEmbedding(torch.autograd.Function):
    """weight[ids], with the gradient of the rows in use."""

    @staticmethod
    def forward(ctx: Any, token_ids: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(token_ids)
        ctx.shape = weight.shape
        return embedding(token_ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        (token_ids,) = ctx.saved_tensors
        rows, places = token_ids.reshape(-1).unique(return_inverse=True)
        grads = grad_outputs[0].reshape(-1, ctx.shape[1])
        sums = grads.new_zeros(rows.shape[0], ctx.shape[1]).index_add_(0, places, grads)
        # The forward pass has checked the ids.
        indices = rows.unsqueeze(0)
        return None, torch.sparse_coo_tensor(indices, sums, ctx.shape, check_invariants=False, is_coalesced=True)


def ngram_numbers(ngrams: Int[Tensor, "n *batch"], vocab_size: int) -> Int[Tensor, "*batch"]:
    """Return the number of each n-gram: its ids as the digits of a number in base `vocab_size`, the oldest first.

    The number is -1 for an n-gram with a negative id, which stands for a missing token. All numbers are below
    vocab_size to the power of n, which must not exceed 2⁶³.
    """
    number = torch.zeros_like(ngrams[0], dtype=torch.int64)
    for ids in ngrams:
        number = number * vocab_size + ids
    return torch.where((ngrams < 0).any(0), -1, number)


_HASH_MULTIPLIER = 2_654_435_761  # about 2³² by the golden ratio (Knuth, The Art of Computer Programming, 6.4)


def ngram_rows(ngrams: Int[Tensor, "n *batch"], rows: int) -> Int[Tensor, "*batch"]:
    """Return the row of a table for each n-gram, by a hash in 64-bit integers that is the same on every machine.

    From h = 0 every id in order gives h = ⌊(h + id + 1) · 2654435761 / 2¹⁶⌋ mod 2³¹. The row is 1 + h mod (rows - 1),
    or 0 for an n-gram with a negative id, which stands for a missing token. No product exceeds 63 bits for ids below
    2³⁰.

    Args:
        ngrams: The ids of the tokens, the oldest first.
        rows: Rows of the table, 2 or more.
    """
    hashed = torch.zeros_like(ngrams[0], dtype=torch.int64)
    for ids in ngrams:
        hashed = ((hashed + ids + 1) * _HASH_MULTIPLIER >> 16) & 0x7FFFFFFF
    return torch.where((ngrams < 0).any(0), 0, 1 + hashed % (rows - 1))


def rotate_pairs(
    x: Float[Tensor, "*batch seq d_k"],
    cos: Float[Tensor, "*#angles seq pairs"],
    sin: Float[Tensor, "*#angles seq pairs"],
) -> Float[Tensor, "*batch seq d_k"]:
    """Return x with the pair (a, b) = (x[2k], x[2k+1]) rotated to (a cos - b sin, a sin + b cos)."""
    wide = at_least_float32(x.dtype)
    x_wide, cos, sin = x.to(wide), cos.to(wide), sin.to(wide)
    if torch.compiler.is_compiling():  # The compiler fuses real arithmetic, but not complex.
        even, odd = x_wide.unflatten(-1, (-1, 2)).unbind(-1)
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # On a CPU a complex product is three to six times as fast.
        rotated = torch.view_as_real(_complex_pairs(x_wide) * torch.complex(cos, sin))
    return rotated.flatten(-2).to(x.dtype)


def _complex_pairs(x: Tensor) -> Tensor:
    """Return adjacent pairs as complex numbers, as a view where pairs are adjacent in memory and else of a copy."""
    *strides, last = x.stride()
    if last != 1 or x.storage_offset() % 2 or any(stride % 2 for stride in strides):
        x = x.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def rms_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"] | None, eps: float
) -> Float[Tensor, "*batch d_model"]:
    """Return x / sqrt(mean(x²) + eps) · weight over the last dimension, computed in float32 at least.

    Without a `weight` nothing is multiplied.
    """
    if not torch.is_grad_enabled():  # For a single position the autograd function would take longer than its content.
        return _normalize(x, weight, eps)[0]
    return _RMSNorm.apply(x, weight, eps)


def _normalize(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return x / rms(x) · weight and 1 / rms(x)."""
    wide_x = x.to(at_least_float32(x.dtype))
    inverse = torch.linalg.vector_norm(wide_x, dim=-1, keepdim=True)  # Unlike x², it writes no tensor as large as x.
    inverse = inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    normal = wide_x * inverse
    return (normal if weight is None else normal.mul_(weight)).to(x.dtype), inverse


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) · weight, with a backward pass that reads the data as few times as possible."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        result, inverse = _normalize(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        wide_x, grad = x.to(inverse.dtype), grad_outputs[0].to(inverse.dtype)
        normal = wide_x * inverse
        scaled, weight_grad = grad, None
        if weight is not None:
            leading = tuple(range(x.dim() - 1))
            weight_grad = ((grad * normal).sum(leading) if leading else grad * normal).to(weight.dtype)
            scaled = grad * weight
        # With n = x / rms and g = grad · weight: dx = (g - n · mean(g · n)) / rms
        mean = (scaled * normal).mean(-1, keepdim=True)
        x_grad = normal.mul_(mean.neg_()).add_(scaled).mul_(inverse)
        return x_grad.to(x.dtype), weight_grad, None


def softmax(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Return exp(x) / sum(exp(x)) along `dim`, in the shape and dtype of `x`.

    The maximum is subtracted first, so no exponential overflows. Sums are in float32 at least. As in
    `torch.nn.functional.softmax`, a slice that is -inf everywhere gives nan. Plainly: `nnscratch.reference.softmax`.
    """
    return _Softmax.apply(x, dim)


class _Softmax(torch.autograd.Function):
    """exp(x - max) / sum, overwritten in place, with a backward pass from the result alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        wide = x.to(at_least_float32(x.dtype))
        exponentials = (wide - wide.amax(dim, keepdim=True)).exp_()
        result = exponentials.div_(exponentials.sum(dim, keepdim=True)).to(x.dtype)
        ctx.save_for_backward(result)
        ctx.dim = dim
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        wide = result.to(at_least_float32(result.dtype))
        # With y the result and g its gradient: dx = y · (g - sum(g · y))
        scaled = grad_outputs[0] * wide
        return torch.addcmul(scaled, wide, scaled.sum(ctx.dim, keepdim=True), value=-1).to(result.dtype), None


def silu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return x · sigmoid(x), elementwise (Hendrycks and Gimpel 2016; also called swish).

    Plainly: `nnscratch.reference.silu`.
    """
    return x * torch.sigmoid(x)


def silu_gate(gate: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return silu(gate) · value, the inner part of SwiGLU (Shazeer 2020, equation 6)."""
    return _SiLUGate.apply(gate, value) if torch.is_grad_enabled() else _gated(gate, value)


def _gated(gate: Tensor, value: Tensor) -> Tensor:
    return torch.sigmoid(gate).mul_(gate).mul_(value)


class _SiLUGate(torch.autograd.Function):
    """silu(gate) · value, which keeps only its two inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return _gated(gate, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grad_outputs
        gate, value = ctx.saved_tensors
        sigmoid = torch.sigmoid(gate)
        activated = sigmoid * gate
        # d silu(a)/da = s + a · s · (1 - s), with s = sigmoid(a)
        slope = torch.addcmul(activated, activated, sigmoid, value=-1).add_(sigmoid)
        return slope.mul_(value).mul_(grad), activated.mul_(grad)


def dropout(x: Float[Tensor, "*shape"], p: float, training: bool) -> Float[Tensor, "*shape"]:
    """Return x with each number set to 0 with probability p, and the others divided by 1 - p (Srivastava et al. 2014).

    Without `training`, or with p = 0, x itself is returned.
    """
    if not training or p == 0:
        return x
    kept = torch.rand(x.shape, device=x.device) >= p  # in float32, because bfloat16 has too few numbers
    return torch.where(kept, x / (1 - p), 0)


def relu_squared(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return max(x, 0)², elementwise (So et al. 2021, Primer)."""
    return _ReLUSquared.apply(x) if torch.is_grad_enabled() else x.clamp(min=0).square_()


class _ReLUSquared(torch.autograd.Function):
    """max(x, 0)², which keeps only max(x, 0) for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp(min=0)
        ctx.save_for_backward(positive)
        return positive * positive  # Autocast on CUDA would compute `square` in float32.

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad_outputs[0] * positive).mul_(2)
