"""Cross-entropy of logits, cross-entropy of a linear layer in chunks, and perplexity."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnscratch.argument_checks import check_last_dimension, check_token_ids, id_error, shape_error
from nnscratch.autocast import at_least_float32, cast_for_autocast

_LOG2_E = math.log2(math.e)
# Logits in memory at once: on a CPU few enough for its caches, elsewhere enough to fill the device.
_CPU_CHUNK_LOGITS = 2**22
_GPU_CHUNK_LOGITS = 2**28
_GPU_ROW_MULTIPLE = 128  # Tensor cores read aligned rows when a chunk's gradient is transposed.
_LARGEST_PLAIN_CAP = 50.0  # Sums of exponentials of logits up to here fit into float32 without subtracting the maximum.


def cross_entropy(
    logits: Float[Tensor, "*batch vocab_size"], targets: Int[Tensor, "*batch"], *, ignore_index: int = -100
) -> Float[Tensor, ""]:
    """Return the mean of -log softmax(logits)[target] over the targets that count, in nats.

    The loss is computed in float32 at least, as the log-sum-exp of logits minus their maximum. Any number of batch
    dimensions is allowed, where `torch.nn.functional.cross_entropy` expects the classes in the second dimension.
    `nnscratch.reference.cross_entropy` has the formula.

    Args:
        logits: Scores of all tokens.
        targets: Ids of the right tokens.
        ignore_index: Target that does not count, such as padding. If none counts, the loss is 0 and has no gradient,
            where torch returns nan.

    Raises:
        ValueError: If the shape of `targets` is not that of `logits` without the last dimension, or `targets` are not
            integers.
        IndexError: If a target is outside the vocabulary (on a GPU, a device error).
    """
    check_token_ids("targets", targets)
    if logits.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(logits.shape[:-1])}, one target for each row of logits")
    return _CrossEntropy.apply(logits.reshape(-1, logits.shape[-1]), *_counted(targets, ignore_index, logits.shape[-1]))


def perplexity(loss: Float[Tensor, "*any"] | float) -> Float[Tensor, "*any"]:
    """Return exp(loss), for a mean cross-entropy in nats per token, as `nnscratch.reference.perplexity`."""
    return torch.as_tensor(loss).exp()


def linear_cross_entropy(
    hidden: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "*batch"],
    *,
    logit_soft_cap: float | None = None,
    ignore_index: int = -100,
    num_sampled: int | None = None,
) -> Float[Tensor, ""]:
    """Return cross_entropy(hidden @ weight.T, targets) in nats, computed in chunks of positions.

    In eager mode only one chunk of logits is in memory at a time, and compiled for CUDA two (`nox -s lowered` counts
    them). Each chunk gives its share of the loss and, if gradients are needed, of the gradients (the idea is described
    in Wijmans et al. 2024 and Hsu et al. 2024). Matrix products are in the dtype of `hidden`, or autocast's;
    exponentials and sums are in float32 at least.

    With `num_sampled` = k, the logits of only k tokens are computed (sampled softmax, Jean et al. 2015): of all t
    tokens that are targets, and of k - t others, drawn uniformly without replacement by torch's global generator. In
    the sum of exponentials each drawn one counts (vocab_size - t) / (k - t) times, for the others. The sum is then
    right in the mean, its logarithm a little too small. Evaluate without it.

    Args:
        hidden: Features before the output layer.
        weight: Weight of the output layer, one row per token.
        targets: Correct token at each position.
        logit_soft_cap: If given, logits z become cap · tanh(z / cap) before the softmax.
        ignore_index: Target that does not count; if none counts, the loss is 0 and has no gradient.
        num_sampled: Tokens whose logits are computed, at least the number of different targets; None: all.

    Raises:
        ValueError: If the shapes do not match, `targets` are not integers, or `num_sampled` is below 1.
        IndexError: If a target is outside the vocabulary (on a GPU, a device error).
    """
    check_token_ids("targets", targets)
    check_last_dimension("hidden", hidden, weight.shape[-1], "d_model")
    if hidden.shape[:-1] != targets.shape:
        raise shape_error("targets", targets, f"{tuple(hidden.shape[:-1])}, one target for each hidden vector")
    targets, counts = _counted(targets, ignore_index, weight.shape[0])
    shifts = None
    if num_sampled is not None:
        weight, targets, shifts = _sampled(weight, targets, num_sampled)
    hidden, weight = cast_for_autocast(hidden, weight)
    grad = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(
        hidden.reshape(-1, hidden.shape[-1]),
        weight.to(hidden.dtype),
        targets,
        counts,
        shifts,
        logit_soft_cap,
        grad and hidden.requires_grad,
        grad and weight.requires_grad,
    )


def _counted(targets: Tensor, ignore_index: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return the targets with 0 for those that do not count, and which count, both (positions, 1).

    Raises:
        IndexError: If one that counts is outside the vocabulary; on a GPU the host would have to wait to see it.
    """
    targets = targets.reshape(-1, 1).long()
    counts = targets != ignore_index
    targets = torch.where(counts, targets, 0)
    if targets.device.type == "cpu" and targets.numel() and not torch.compiler.is_compiling():
        low, high = torch.aminmax(targets)
        if low < 0 or high >= vocab_size:
            raise id_error("targets", targets, vocab_size)
    return targets, counts


def _sampled(weight: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of the targets and of drawn tokens, the targets among them, and what is added to their logits."""
    if count < 1:
        raise ValueError(f"num_sampled={count!r} is out of range; choose at least 1, or None for all tokens")
    if torch.compiler.is_compiling():
        raise ValueError(f"num_sampled={count!r} has shapes that depend on the targets; compile with None")
    is_target = torch.zeros(weight.shape[0], dtype=torch.bool, device=weight.device)
    is_target[targets] = True
    present, others = is_target.nonzero().squeeze(1), is_target.logical_not().nonzero().squeeze(1)
    draws = min(max(0, count - len(present)), len(others))
    drawn = others[torch.randperm(len(others), device=weight.device)[:draws]]
    shifts = torch.zeros(len(present) + draws, device=weight.device)
    if draws:
        shifts[len(present) :] = math.log(len(others) / draws)
    places = is_target.cumsum(0) - 1
    return weight.index_select(0, torch.cat((present, drawn))), places[targets], shifts


class _CrossEntropy(torch.autograd.Function):
    """Mean of log-sum-exp minus the target's logit, for logits of shape (positions, vocab_size)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        wide = logits.to(at_least_float32(logits.dtype))
        maxima = wide.amax(-1, keepdim=True)
        sums = (wide - maxima).exp_().sum(-1, keepdim=True)
        number = counts.sum(dtype=wide.dtype).clamp_(min=1)
        ctx.save_for_backward(logits, maxima, sums, targets, counts / number)
        # Subtract first: added to a large maximum, the logarithm would lose its digits.
        losses = sums.log() + (maxima - wide.gather(-1, targets))
        return torch.where(counts, losses, 0).sum() / number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        logits, maxima, sums, targets, shares = ctx.saved_tensors
        grad = grad_outputs[0] * shares
        # d loss / d logits = (softmax - onehot) / number of targets that count
        result = (logits - maxima).exp_().mul_(grad / sums)
        return result.scatter_add_(-1, targets, -grad).to(logits.dtype), None, None


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
        counts: Tensor,
        shifts: Tensor | None,
        soft_cap: float | None,
        hidden_needs_grad: bool,
        weight_needs_grad: bool,
    ) -> Tensor:
        wide = at_least_float32(hidden.dtype)
        count = hidden.shape[0]
        rows = _chunk_rows(hidden.device.type, count, weight.shape[0])
        number = counts.sum(dtype=wide).clamp_(min=1)
        power = _power(hidden.dtype, count)
        # 1 / number for each target that counts, except in float16: there most would round to 0, so backward divides.
        shares = counts / number if power is None else counts.to(wide)
        ctx.power = power
        losses = [hidden.new_zeros((0, 1), dtype=wide)]
        weight_grad = torch.zeros_like(weight, dtype=wide) if weight_needs_grad else None
        needs_grad = hidden_needs_grad or weight_needs_grad
        add_gradients = _add_gradients_operator if torch.compiler.is_compiling() else _add_gradients
        columns = weight.T
        features = hidden.clone() if needs_grad else hidden  # Chunk by chunk the gradient takes their place.
        for start in range(0, count, rows):
            part, target, share = (tensor[start : start + rows] for tensor in (features, targets, shares))
            logits = (part @ columns).to(wide)
            if soft_cap is not None:  # From here on logits are tanh(z / cap), without the factor soft_cap.
                logits = _tanh_(logits.div_(soft_cap))
            if torch.compiler.is_compiling():
                # The compiler reads this sum with the logits. It would keep all chunks' logits until a gather.
                is_target = torch.arange(weight.shape[0], device=target.device) == target
                chosen = torch.where(is_target, logits, 0).sum(-1, keepdim=True)
            else:
                chosen = logits.gather(-1, target)
            if soft_cap is None:
                if shifts is not None:  # They are 0 for the targets.
                    logits += shifts
                maxima = logits.amax(-1, keepdim=True)
                exponentials = _exp_(logits.sub_(maxima))
                over_maximum = chosen - maxima
            elif soft_cap <= _LARGEST_PLAIN_CAP:
                exponentials = _exp_(logits * soft_cap)
                over_maximum = chosen * soft_cap
            else:
                maxima = logits.amax(-1, keepdim=True)
                exponentials = _exp_((logits - maxima).mul_(soft_cap))
                over_maximum = (chosen - maxima) * soft_cap
            if soft_cap is not None and shifts is not None:
                exponentials *= shifts.exp()
            sums = exponentials.sum(-1, keepdim=True)
            losses.append(sums.log() - over_maximum)
            if not needs_grad:
                continue
            # d loss / d logits = (softmax - onehot) / number of targets that count
            grad = exponentials.mul_(share / sums)
            if torch.compiler.is_compiling():  # The compiler fuses this; a scatter needs the whole chunk in memory.
                grad = torch.where(is_target, grad - share, grad)
            else:
                grad.scatter_add_(-1, target, -share)
            if soft_cap is not None:  # d tanh(x) / dx = 1 - tanh(x)²
                grad.addcmul_(grad * logits, logits, value=-1)
            add_gradients(grad.to(hidden.dtype), columns, features, weight_grad, start, power or 1.0, hidden_needs_grad)
        total = torch.where(counts, torch.cat(losses), 0).sum()
        hidden_grad = features if hidden_needs_grad else None
        ctx.save_for_backward(hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype), number)
        return total / number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        *saved, number = ctx.saved_tensors
        if ctx.power is None:
            scaled = [None if tensor is None else tensor * grad.to(tensor.dtype) for tensor in saved]
        else:
            factors = grad / number, grad / (number * ctx.power)
            pairs = zip(saved, factors, strict=True)
            scaled = [None if tensor is None else _rescaled(tensor, factor) for tensor, factor in pairs]
        return (*scaled, None, None, None, None, None, None)


def _exp_(x: Tensor) -> Tensor:
    """Return e^x, which may overwrite x. The compiler gets a power of two, for which GPUs have an instruction."""
    return torch.exp2(x * _LOG2_E) if torch.compiler.is_compiling() else x.exp_()


def _tanh_(x: Tensor) -> Tensor:
    """Return tanh(x), which may overwrite x. The compiler gets 1 - 2 / (1 + e^2x), exact to 2e-7."""
    return 1 - 2 / (1 + torch.exp2(x * (2 * _LOG2_E))) if torch.compiler.is_compiling() else x.tanh_()


def _add_gradients(
    grad: Tensor,
    columns: Tensor,
    features: Tensor,
    weight_grad: Tensor | None,
    start: int,
    factor: float,
    features_need_grad: bool,
) -> None:
    """Add a chunk's gradient times a factor to that of the weight, and write the gradient of its features over them.

    `grad` is the gradient of the chunk's logits, (rows, vocab_size), and `start` the first of its rows in `features`.
    """
    part = features[start : start + grad.shape[0]]
    if weight_grad is not None:
        _add_product(weight_grad, grad.T, part if factor == 1 else part * factor)
    if features_need_grad:
        torch.mm(grad, columns.T, out=part)


def _add_product(total: Tensor, first: Tensor, second: Tensor) -> None:
    """Add first @ second to a matrix, which may have a wider dtype."""
    if total.dtype == first.dtype:
        torch.addmm(total, first, second, out=total)  # addmm_ escapes torch's counter of FLOPs.
    elif total.is_cuda and torch.__version__ >= "2.8":  # The sum is rounded, but not the product.
        torch.addmm(total, first, second, out_dtype=total.dtype, out=total)
    else:
        # Adding a narrower matrix first makes a copy in the wider dtype, so it is added in parts that fit the caches.
        for part, product in zip(total.split(1024), (first @ second).split(1024), strict=True):
            part += product


# The compiler would fuse the additions of all chunks, and keep their logits or products until then. An operator that
# overwrites what the next chunk reads keeps the chunks apart, also if no feature needs a gradient.
_add_gradients_operator = torch.library.custom_op(
    "nnscratch::add_chunk_gradients", mutates_args=("features", "weight_grad")
)(_add_gradients)
_add_gradients_operator.register_fake(lambda *_: None)


def _power(dtype: torch.dtype, positions: int) -> float | None:
    """Return a power of two about the inverse root of the number of positions, by which sums fit into float16.

    It is None for other dtypes, which need none.
    """
    return 2.0 ** -math.ceil(math.log2(max(positions, 1)) / 2) if dtype == torch.float16 else None


def _rescaled(saved: Tensor, factor: Tensor) -> Tensor:
    """Return the product in the dtype of `saved`, computed in float32."""
    # A factor with one dimension takes part in choosing the dtype; a factor without would be rounded first.
    return torch.mul(saved, factor.view(1), out=torch.empty_like(saved))
