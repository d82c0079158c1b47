"""Stateless functions: softmax, SiLU and its gate, squared ReLU, cross-entropy, perplexity."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_token_ids, shape_error


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums and exponentials of `dtype` are computed: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


class _Softmax(torch.autograd.Function):
    """exp(x - max) / sum, with the numbers written in place, and a backward pass from the result alone."""

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


def softmax(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Return exp(x) / sum(exp(x)) along `dim`, in the shape and dtype of `x`.

    The maximum is subtracted first, so no exponential overflows; sums are in float32 at least.
    Like `torch.nn.functional.softmax`, a slice in which everything is -inf gives nan.
    """
    return _Softmax.apply(x, dim)


def silu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return x · sigmoid(x), elementwise (Hendrycks and Gimpel 2016; also called swish)."""
    return x * torch.sigmoid(x)


def _gated(gate: Tensor, value: Tensor) -> Tensor:
    return torch.sigmoid(gate).mul_(gate).mul_(value)


class _SiluGate(torch.autograd.Function):
    """silu(gate) · value, which keeps its two inputs alone and passes over them fewer times than autograd would."""

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
        # d silu(a)/da = s + a·s·(1 - s), with s = sigmoid(a)
        slope = torch.addcmul(activated, activated, sigmoid, value=-1).add_(sigmoid)
        return slope.mul_(value).mul_(grad), activated.mul_(grad)


def silu_gate(gate: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return silu(gate) · value, the inner part of SwiGLU (Shazeer 2020, equation 6)."""
    if not torch.is_grad_enabled():
        return _gated(gate, value)
    return _SiluGate.apply(gate, value)


class _ReLUSquared(torch.autograd.Function):
    """max(x, 0)², which keeps max(x, 0) alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp(min=0)
        ctx.save_for_backward(positive)
        return positive * positive  # square is among what autocast on CUDA computes in float32

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad_outputs[0] * positive).mul_(2)


def relu_squared(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return max(x, 0)², elementwise (So et al. 2021, Primer)."""
    if not torch.is_grad_enabled():
        return x.clamp(min=0).square_()
    return _ReLUSquared.apply(x)


class _CrossEntropy(torch.autograd.Function):
    """Mean of log-sum-exp minus the target's logit, for logits of (positions, vocab_size)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.to(at_least_float32(logits.dtype))
        maxima = wide.amax(-1, keepdim=True)
        sums = (wide - maxima).exp_().sum(-1, keepdim=True)
        ctx.save_for_backward(logits, maxima, sums, targets)
        # The difference first: beside a large maximum, the logarithm's digits would be lost.
        return (sums.log() + (maxima - wide.gather(-1, targets))).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        logits, maxima, sums, targets = ctx.saved_tensors
        grad = grad_outputs[0] / max(targets.shape[0], 1)
        # d loss / d logits = (softmax - onehot) / positions
        result = (logits - maxima).exp_().mul_(grad / sums)
        return result.scatter_add_(-1, targets, -grad.expand(targets.shape)).to(logits.dtype), None


def cross_entropy(logits: Float[Tensor, "*batch vocab_size"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Return the mean over all positions of -log softmax(logits)[target], in nats.

    Computed in float32 at least, as log-sum-exp of logits whose maximum was subtracted. Takes any number of batch
    dimensions, where `torch.nn.functional.cross_entropy` wants the classes second.

    Raises:
        ValueError: if `targets` has not the shape of `logits` without the last dimension, or holds no integers.
    """
    check_token_ids("targets", targets)
    if logits.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(logits.shape[:-1])}, one for each of the logits")
    return _CrossEntropy.apply(logits.reshape(-1, logits.shape[-1]), targets.long().reshape(-1, 1))


def perplexity(loss: Float[Tensor, "*any"] | float) -> Float[Tensor, "*any"]:
    """Return exp(loss), for a mean cross-entropy in nats per token."""
    return torch.as_tensor(loss).exp()
