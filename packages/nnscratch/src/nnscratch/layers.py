"""Layers: linear, embedding, RMS normalization, feed-forward networks."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch import functional
from nnscratch.argument_checks import check_last_dimension, check_token_ids


def _truncated_normal(
    shape: tuple[int, ...], std: float, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Parameter:
    """Return a parameter drawn from N(0, std²), truncated at three standard deviations."""
    weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)
    return weight


class Linear(nn.Module):
    """y = x Wᵀ; `weight` is (d_out, d_in), drawn from N(0, 2 / (d_in + d_out)) truncated at 3 sigma.

    With `bias`, y = x Wᵀ + b, and b is (d_out,) and starts at 0. `torch.nn.Linear` has a bias unless told otherwise,
    and draws from a uniform distribution. Plainly: `nnscratch.reference.linear`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.weight = _truncated_normal((d_out, d_in), math.sqrt(2 / (d_in + d_out)), device, dtype)
        self.bias = nn.Parameter(torch.zeros(d_out, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return x Wᵀ, plus the bias if there is one."""
        check_last_dimension("x", x, self.weight.shape[1], "d_in")
        y = functional.linear(x, self.weight)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class Embedding(nn.Module):
    """Table of vectors; `weight` is (num_embeddings, d_model), drawn from N(0, std²) truncated at 3 sigma.

    Plainly: `nnscratch.reference.embedding`.
    """

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
        self.weight = _truncated_normal((num_embeddings, d_model), std, device, dtype)

    def forward(self, token_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        """Return the vector of each id.

        Raises:
            IndexError: If an id is outside the table (on a GPU, a device error).
        """
        check_token_ids("token_ids", token_ids)
        return functional.embedding(token_ids, self.weight)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang and Sennrich 2019, equation 4).

    The result is computed in float32 at least and has the dtype of `x`. `torch.nn.RMSNorm` derives eps from the dtype.
    Plainly: `nnscratch.reference.rms_norm`.
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
        """Return the normalized vectors."""
        check_last_dimension("x", x, self.weight.shape[0], "d_model")
        return functional.rms_norm(x, self.weight, self.eps)


class _FeedForward(nn.Module):
    """The two matrices that every feed-forward network has."""

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device, dtype)
        self.w2 = Linear(d_ff, d_model, device, dtype)


class SwiGLU(_FeedForward):
    """w2(silu(w1 x) · w3 x), a gated feed-forward network (Shazeer 2020, equation 6).

    Plainly: `nnscratch.reference.swiglu`.
    """

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(d_model, d_ff, device, dtype)
        self.w3 = Linear(d_model, d_ff, device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        return self.w2(functional.silu_gate(self.w1(x), self.w3(x)))


class SiLUFeedForward(_FeedForward):
    """w2(silu(w1 x)); with d_ff = 4 · d_model it has as many parameters as a SwiGLU with d_ff = 8/3 · d_model."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        return self.w2(functional.silu(self.w1(x)))


class ReLUSquaredFeedForward(_FeedForward):
    """w2(max(w1 x, 0)²) (So et al. 2021, Primer)."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        return self.w2(functional.relu_squared(self.w1(x)))
