"""Layers: linear, embedding, RMS normalisation, feed-forward networks."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_last_dimension, check_token_ids, id_error
from nnscratch.functional import at_least_float32, relu_squared, silu, silu_gate


def truncated_normal(
    shape: tuple[int, ...], std: float, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Parameter:
    """Return a parameter drawn from N(0, std²), cut off at three standard deviations."""
    weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)
    return weight


def _few_products(x: Tensor, weight: Tensor) -> Tensor | None:
    """Return x Wᵀ for the few vectors of a generation's step in float32 on a CPU, and None for all else.

    For these, Intel's library reads W up to five times as fast in a batch of four parts as in one.
    """
    d_out, d_in = weight.shape
    if x.dtype != torch.float32 or x.numel() > 32 * d_in or weight.numel() < 2**14 or d_out % 4:
        return None
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return None
    if x.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    columns = x.reshape(-1, d_in).T
    products = torch.bmm(weight.view(4, -1, d_in), columns.expand(4, -1, -1)).view(d_out, columns.shape[1])
    return products.T.reshape(*x.shape[:-1], d_out)


class Linear(nn.Module):
    """y = x Wᵀ without bias; `weight` is (d_out, d_in), drawn from N(0, 2 / (d_in + d_out)) cut off at 3 sigma.

    `torch.nn.Linear` has a bias and draws uniformly instead.
    """

    def __init__(
        self, d_in: int, d_out: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.weight = truncated_normal((d_out, d_in), math.sqrt(2 / (d_in + d_out)), device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return the product of every vector with the weight."""
        check_last_dimension("x", x, self.weight.shape[1], "d_in")
        few = _few_products(x, self.weight)
        return x @ self.weight.T if few is None else few


class Embedding(nn.Module):
    """A table of vectors; `weight` is (num_embeddings, d_model), drawn from N(0, std²) cut off at 3 sigma."""

    def __init__(
        self,
        num_embeddings: int,
        d_model: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = truncated_normal((num_embeddings, d_model), std, device, dtype)

    def forward(self, token_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        """Return the vector of each id. An id outside of the table raises an IndexError (on a GPU, a device error)."""
        check_token_ids("token_ids", token_ids)
        # index_select, because the backward pass of plain indexing is about three times as slow on a CPU
        if torch.compiler.is_compiling():
            rows = self.weight.index_select(0, token_ids.reshape(-1))
        else:
            try:
                rows = self.weight.index_select(0, token_ids.reshape(-1))
            except IndexError as error:
                raise id_error("token_ids", token_ids, self.weight.shape[0]) from error
        return rows.view(*token_ids.shape, self.weight.shape[1])


def _normalize(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x / rms(x) · weight and 1 / rms(x)."""
    wide_x = x.to(at_least_float32(x.dtype))
    inverse = torch.linalg.vector_norm(wide_x, dim=-1, keepdim=True)
    inverse = inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide_x * inverse).mul_(weight).to(x.dtype), inverse


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) · weight, with the backward pass in as few passes over the data as it needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, inverse = _normalize(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        wide_x, grad = x.to(inverse.dtype), grad_outputs[0].to(inverse.dtype)
        normal = wide_x * inverse
        leading = tuple(range(x.dim() - 1))
        weight_grad = (grad * normal).sum(leading) if leading else grad * normal
        # With n = x/rms and g = grad·weight: dx = (g - n · mean(g·n)) / rms
        scaled = grad * weight
        mean = (scaled * normal).mean(-1, keepdim=True)
        x_grad = scaled.sub_(normal.mul_(mean)).mul_(inverse)
        return x_grad.to(x.dtype), weight_grad.to(weight.dtype), None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang and Sennrich 2019, equation 4).

    Computed in float32 at least and returned in the dtype of `x`; `torch.nn.RMSNorm` takes eps from the dtype.
    """

    def __init__(
        self,
        d_model: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model, device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the normalised vectors."""
        check_last_dimension("x", x, self.weight.shape[0], "d_model")
        if not torch.is_grad_enabled():  # for a single position, the function below takes longer than what it computes
            return _normalize(x, self.weight, self.eps)[0]
        return _RMSNorm.apply(x, self.weight, self.eps)


class SwiGLU(nn.Module):
    """w2(silu(w1 x) · w3 x), a gated feed-forward network (Shazeer 2020, equation 6)."""

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device, dtype)
        self.w2 = Linear(d_ff, d_model, device, dtype)
        self.w3 = Linear(d_model, d_ff, device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the network's output for every vector."""
        return self.w2(silu_gate(self.w1(x), self.w3(x)))


class SiLUFeedForward(nn.Module):
    """w2(silu(w1 x)); with d_ff = 4 · d_model it has the parameters of a SwiGLU with 8/3 · d_model."""

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device, dtype)
        self.w2 = Linear(d_ff, d_model, device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the network's output for every vector."""
        return self.w2(silu(self.w1(x)))


class ReLUSquaredFeedForward(nn.Module):
    """w2(max(w1 x, 0)²) (So et al. 2021, Primer)."""

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device, dtype)
        self.w2 = Linear(d_ff, d_model, device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the network's output for every vector."""
        return self.w2(relu_squared(self.w1(x)))
