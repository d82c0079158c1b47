"""Stateless functions: softmax, SiLU and its gate, cross-entropy, perplexity."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums and exponentials of `dtype` are computed: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def softmax(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Return exp(x) / sum(exp(x)) along `dim`, in the shape and dtype of `x`.

    The maximum is subtracted first, so no exponential overflows; sums are in float32 at least.
    Like `torch.nn.functional.softmax`, a slice in which everything is -inf gives nan.
    """
    wide = x.to(at_least_float32(x.dtype))
    # The result does not depend on the shift, so the gradient need not pass through the maximum.
    exponentials = (wide - wide.detach().amax(dim, keepdim=True)).exp_()
    return (exponentials / exponentials.sum(dim, keepdim=True)).to(x.dtype)


def silu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return x · sigmoid(x), elementwise (Hendrycks and Gimpel 2016; also called swish)."""
    return x * torch.sigmoid(x)


class _SiluGate(torch.autograd.Function):
    """silu(gate) · value; one function because autograd alone would keep more tensors and pass over them more often."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(gate)
        activated = sigmoid * gate
        ctx.save_for_backward(sigmoid, activated, value)
        return activated * value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grad_outputs
        sigmoid, activated, value = ctx.saved_tensors
        # d silu(a)/da = s + a·s·(1 - s), with s = sigmoid(a) and a·s already at hand
        slope = torch.addcmul(activated, activated, sigmoid, value=-1).add_(sigmoid)
        return slope.mul_(value).mul_(grad), activated * grad


def silu_gate(gate: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return silu(gate) · value, the inner part of SwiGLU (Shazeer 2020, equation 6)."""
    return _SiluGate.apply(gate, value)


def cross_entropy(logits: Float[Tensor, "*batch vocab_size"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Return the mean over all positions of -log softmax(logits)[target], in nats.

    Computed in float32 at least, as log-sum-exp of logits whose maximum was subtracted. Takes any number of batch
    dimensions, where `torch.nn.functional.cross_entropy` wants the classes second.
    """
    wide = logits.to(at_least_float32(logits.dtype))
    shifted = wide - wide.detach().amax(-1, keepdim=True)
    log_normalisers = shifted.exp().sum(-1).log()
    return (log_normalisers - shifted.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)).mean()


def perplexity(loss: Float[Tensor, "*any"] | float) -> Float[Tensor, "*any"]:
    """Return exp(loss), for a mean cross-entropy in nats per token."""
    return torch.as_tensor(loss).exp()
