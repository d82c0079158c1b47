"""Cross-entropy of a linear layer's outputs that never holds all logits."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_last_dimension, check_token_ids, shape_error
from nnscratch.autocast import cast_for_autocast
from nnscratch.functional import at_least_float32

# Logits held at once. On a CPU few enough to stay in its caches, elsewhere enough to fill the device.
_CPU_CHUNK_LOGITS = 2**22
_GPU_CHUNK_LOGITS = 2**28
_LARGEST_PLAIN_CAP = 50.0  # logits up to it need no maximum taken off: sums of their exponentials fit into float32
_GPU_ROW_MULTIPLE = 128  # tensor cores read aligned rows of a chunk's gradient, transposed


def _chunk_rows(device_type: str, count: int, vocab_size: int) -> int:
    """Return how many of `count` positions have their logits computed at once."""
    if device_type == "cpu":
        return max(1, _CPU_CHUNK_LOGITS // vocab_size)
    most = max(1, _GPU_CHUNK_LOGITS // vocab_size // _GPU_ROW_MULTIPLE)  # from here on in units of that many rows
    needed = math.ceil(count / _GPU_ROW_MULTIPLE)
    chunks = max(1, math.ceil(needed / most))
    return _GPU_ROW_MULTIPLE * max(1, math.ceil(needed / chunks))  # chunks of equal size, the last one aside


def _rescaled(saved: Tensor, factor: Tensor) -> Tensor:
    """Return the product in the type of `saved`, computed in float32."""
    # A factor with a dimension decides on the type of the product, where one without would be rounded beforehand.
    return torch.mul(saved, factor.view(1), out=torch.empty_like(saved))


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
        # In float16 most shares of a mean would round to 0, so there the gradients wait for theirs until the backward
        # pass; what adds up over positions is made smaller by about the root of their number, so that it fits.
        small_range = hidden.dtype == torch.float16
        divisor, power = (1, 2.0 ** -math.ceil(math.log2(max(count, 1)) / 2)) if small_range else (count, 1.0)
        ctx.factors = (1 / max(count, 1), 1 / (max(count, 1) * power)) if small_range else None
        total = hidden.new_zeros((), dtype=wide)
        hidden_grad = torch.empty_like(hidden) if hidden_needs_grad else None
        weight_grad = torch.zeros_like(weight, dtype=wide) if weight_needs_grad else None
        for start in range(0, count, rows):
            part, target = hidden[start : start + rows], targets[start : start + rows].unsqueeze(-1)
            logits = (part @ weight.T).to(wide)
            if soft_cap is not None:  # from here on logits are tanh(z / cap), soft_cap times less than those that count
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
            if torch.compiler.is_compiling():  # which fuses this, where a scatter needs the whole chunk in memory
                is_target = torch.arange(weight.shape[0], device=target.device) == target
                grad = torch.where(is_target, grad - 1 / divisor, grad)
            else:
                grad.scatter_add_(-1, target, torch.full_like(chosen, -1 / divisor))
            if soft_cap is not None:  # the derivative of tanh is 1 - tanh²
                grad.addcmul_(grad * logits, logits, value=-1)
            grad = grad.to(hidden.dtype)
            if hidden_grad is not None:
                hidden_grad[start : start + rows] = grad @ weight
            if weight_grad is not None:
                weight_grad += grad.T @ (part * power if small_range else part)
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


def linear_cross_entropy(
    hidden: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "*batch"],
    *,
    logit_soft_cap: float | None = None,
) -> Float[Tensor, ""]:
    """Return cross_entropy(hidden @ weight.T, targets) in nats, computed in chunks of positions.

    The logits of all positions never exist together: each chunk's are turned into its share of the loss and, if
    gradients will be asked for, of the gradients (Wijmans et al. 2024 and Hsu et al. 2024 describe the idea). Matrix
    products are in the dtype of `hidden`, or autocast's; exponentials and sums are in float32 at least.

    Args:
        hidden: features before the output layer.
        weight: the output layer's weight, rows are tokens.
        targets: the right token of each position.
        logit_soft_cap: if given, logits z become cap · tanh(z / cap) before the softmax.

    Raises:
        ValueError: if the shapes do not belong together, or `targets` holds no integers.
    """
    check_token_ids("targets", targets)
    check_last_dimension("hidden", hidden, weight.shape[-1], "d_model")
    if hidden.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(hidden.shape[:-1])}, one for each of the hidden vectors")
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
