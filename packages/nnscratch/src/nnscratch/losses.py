"""Cross-entropy of logits, cross-entropy of a linear layer in chunks, and perplexity."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_last_dimension, check_token_ids, shape_error
from nnscratch.autocast import at_least_float32, cast_for_autocast

# Logits in memory at once: on a CPU few enough for its caches, elsewhere enough to fill the device.
_CPU_CHUNK_LOGITS = 2**22
_GPU_CHUNK_LOGITS = 2**28
_GPU_ROW_MULTIPLE = 128  # Tensor cores read aligned rows when a chunk's gradient is transposed.
_LARGEST_PLAIN_CAP = 50.0  # Sums of exponentials of logits up to here fit into float32 without subtracting the maximum.


def cross_entropy(logits: Float[Tensor, "*batch vocab_size"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Return the mean over all positions of -log softmax(logits)[target], in nats.

    The loss is computed in float32 at least, as the log-sum-exp of logits minus their maximum. Any number of batch
    dimensions is allowed, where `torch.nn.functional.cross_entropy` expects the classes in the second dimension.

    Raises:
        ValueError: If the shape of `targets` is not that of `logits` without the last dimension, or `targets` are not
            integers.
    """
    check_token_ids("targets", targets)
    if logits.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(logits.shape[:-1])}, one target for each row of logits")
    return _CrossEntropy.apply(logits.reshape(-1, logits.shape[-1]), targets.long().reshape(-1, 1))


def perplexity(loss: Float[Tensor, "*any"] | float) -> Float[Tensor, "*any"]:
    """Return exp(loss), for a mean cross-entropy in nats per token."""
    return torch.as_tensor(loss).exp()


def linear_cross_entropy(
    hidden: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "*batch"],
    *,
    logit_soft_cap: float | None = None,
) -> Float[Tensor, ""]:
    """Return cross_entropy(hidden @ weight.T, targets) in nats, computed in chunks of positions.

    In eager mode only one chunk of logits is in memory at a time. Each chunk gives its share of the loss and, if
    gradients are needed, of the gradients (the idea is described in Wijmans et al. 2024 and Hsu et al. 2024). Matrix
    products are in the dtype of `hidden`, or autocast's; exponentials and sums are in float32 at least.

    Args:
        hidden: Features before the output layer.
        weight: Weight of the output layer, one row per token.
        targets: Correct token at each position.
        logit_soft_cap: If given, logits z become cap · tanh(z / cap) before the softmax.

    Raises:
        ValueError: If the shapes do not match, or `targets` are not integers.
    """
    check_token_ids("targets", targets)
    check_last_dimension("hidden", hidden, weight.shape[-1], "d_model")
    if hidden.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(hidden.shape[:-1])}, one target for each hidden vector")
    hidden, weight = cast_for_autocast(hidden, weight)
    grad = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(
        hidden.reshape(-1, hidden.shape[-1]),
        weight.to(hidden.dtype),
        targets.reshape(-1).long(),
        logit_soft_cap,
        grad and hidden.requires_grad,
        grad and weight.requires_grad,
    )


class _CrossEntropy(torch.autograd.Function):
    """Mean of log-sum-exp minus the target's logit, for logits of shape (positions, vocab_size)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.to(at_least_float32(logits.dtype))
        maxima = wide.amax(-1, keepdim=True)
        sums = (wide - maxima).exp_().sum(-1, keepdim=True)
        ctx.save_for_backward(logits, maxima, sums, targets)
        # Subtract first: added to a large maximum, the logarithm would lose its digits.
        return (sums.log() + (maxima - wide.gather(-1, targets))).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        logits, maxima, sums, targets = ctx.saved_tensors
        grad = grad_outputs[0] / max(targets.shape[0], 1)
        # d loss / d logits = (softmax - onehot) / positions
        result = (logits - maxima).exp_().mul_(grad / sums)
        return result.scatter_add_(-1, targets, -grad.expand(targets.shape)).to(logits.dtype), None


def _chunk_rows(device_type: str, count: int, vocab_size: int) -> int:
    """Return the number of positions in a chunk, for `count` positions in all."""
    if device_type == "cpu":
        return max(1, _CPU_CHUNK_LOGITS // vocab_size)
    # On a GPU count in multiples of 128 rows and make all chunks but the last of equal size.
    most = max(1, _GPU_CHUNK_LOGITS // vocab_size // _GPU_ROW_MULTIPLE)
    needed = math.ceil(count / _GPU_ROW_MULTIPLE)
    chunks = max(1, math.ceil(needed / most))
    return _GPU_ROW_MULTIPLE * max(1, math.ceil(needed / chunks))


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and, while a chunk's logits are at hand, also the gradients, so that backward only has to scale them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        soft_cap: float | None,
        hidden_needs_grad: bool,
        weight_needs_grad: bool,
    ) -> Tensor:
        wide = at_least_float32(hidden.dtype)
        count = hidden.shape[0]
        rows = _chunk_rows(hidden.device.type, count, weight.shape[0])
        divisor, power, factors = _scales(hidden.dtype, count)
        ctx.factors = factors
        total = hidden.new_zeros((), dtype=wide)
        hidden_grad = torch.empty_like(hidden) if hidden_needs_grad else None
        weight_grad = torch.zeros_like(weight, dtype=wide) if weight_needs_grad else None
        for start in range(0, count, rows):
            part, target = hidden[start : start + rows], targets[start : start + rows].unsqueeze(-1)
            logits = (part @ weight.T).to(wide)
            if soft_cap is not None:  # From here on logits are tanh(z / cap), without the factor soft_cap.
                logits.div_(soft_cap).tanh_()
            chosen = logits.gather(-1, target)
            if soft_cap is None:
                maxima = logits.amax(-1, keepdim=True)
                exponentials = logits.sub_(maxima).exp_()
                over_maximum = chosen - maxima
            elif soft_cap <= _LARGEST_PLAIN_CAP:
                exponentials = (logits * soft_cap).exp_()
                over_maximum = chosen * soft_cap
            else:
                maxima = logits.amax(-1, keepdim=True)
                exponentials = (logits - maxima).mul_(soft_cap).exp_()
                over_maximum = (chosen - maxima) * soft_cap
            sums = exponentials.sum(-1, keepdim=True)
            total += (sums.log() - over_maximum).sum()
            if not (hidden_needs_grad or weight_needs_grad):
                continue
            # d loss / d logits = (softmax - onehot) / count
            grad = exponentials.mul_(sums.mul_(divisor).reciprocal_())
            if torch.compiler.is_compiling():  # The compiler fuses this; a scatter needs the whole chunk in memory.
                is_target = torch.arange(weight.shape[0], device=target.device) == target
                grad = torch.where(is_target, grad - 1 / divisor, grad)
            else:
                grad.scatter_add_(-1, target, torch.full_like(chosen, -1 / divisor))
            if soft_cap is not None:  # d tanh(x) / dx = 1 - tanh(x)²
                grad.addcmul_(grad * logits, logits, value=-1)
            grad = grad.to(hidden.dtype)
            if hidden_grad is not None:
                hidden_grad[start : start + rows] = grad @ weight
            if weight_grad is not None:
                weight_grad += grad.T @ (part if factors is None else part * power)
        ctx.save_for_backward(hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        if ctx.factors is None:
            scaled = [None if saved is None else saved * grad.to(saved.dtype) for saved in ctx.saved_tensors]
        else:
            pairs = zip(ctx.saved_tensors, ctx.factors, strict=True)
            scaled = [None if saved is None else _rescaled(saved, grad * factor) for saved, factor in pairs]
        return (*scaled, None, None, None, None)


def _scales(dtype: torch.dtype, count: int) -> tuple[int, float, tuple[float, float] | None]:
    """Return the divisor of gradients, a factor for sums over positions, and factors for the backward pass.

    A mean over `count` positions divides immediately, except in float16: there most shares would round to
    0, so the backward pass divides. Until then, sums over positions are smaller by about the root of the number of
    positions, so that they fit.
    """
    if dtype != torch.float16:
        return count, 1.0, None
    count = max(count, 1)
    power = 2.0 ** -math.ceil(math.log2(count) / 2)
    return 1, power, (1 / count, 1 / (count * power))


def _rescaled(saved: Tensor, factor: Tensor) -> Tensor:
    """Return the product in the dtype of `saved`, computed in float32."""
    # A factor with one dimension takes part in choosing the dtype; a factor without would be rounded first.
    return torch.mul(saved, factor.view(1), out=torch.empty_like(saved))
