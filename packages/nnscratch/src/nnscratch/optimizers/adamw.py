"""Adam with decoupled weight decay."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn, optim

from nnscratch.optimizers.checks import check_absent, check_fraction, check_not_negative, gradients, loss_of

# Numbers of a parameter that a CPU thread takes through all operations before the next ones. With their gradient, mean
# and mean square they stay in the caches; whole parameters would be read from memory by every operation.
_NUMBERS_PER_THREAD = 2**17


class AdamW(optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    m = beta1 · m + (1 - beta1) · grad
    v = beta2 · v + (1 - beta2) · grad²
    param -= lr · weight_decay · param
    param -= lr · (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Plainly: `nnscratch.reference.adamw`. The parameter decays before the update, as in the CS336 handout of 2026; that
    of 2025 decays the updated one. The results are those of `torch.optim.AdamW`, whose state dicts load here unless
    `amsgrad` or `maximize` is on. torch selects an implementation by flags; here the device decides. `lr` may
    change between steps. t counts the steps of each parameter in which it had a gradient.

    `torch.compile(optimizer.step)` compiles in its first steps and not again as t and `lr` change: once if `lr` is a
    tensor, twice if it is a number. It is the fastest on a CPU, because the compiler fuses seven passes over memory
    into one.

    The state of a parameter consists of `exp_avg` (m) and `exp_avg_sq` (v), in the shape and dtype of the parameter,
    and `step` (t), a tensor of one number on the CPU.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate: about the largest change of a parameter in one step.
        betas: Decay rates of the mean and of the mean square of the gradient, per step.
        eps: Added to the root mean square, in the unit of the gradient.
        weight_decay: Fraction by which a parameter shrinks in one step, per unit of `lr`.

    Raises:
        ValueError: If a hyperparameter is out of range, or a group or a loaded state has a setting of
            `torch.optim.AdamW` that would be ignored.
    """

    step_compiles: ClassVar[bool] = True
    """`torch.compile(optimizer.step)` gives one program for all t, and for any `lr` and `weight_decay` that are tensors
    of one number."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        _check(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state, unless it has a setting that would be ignored."""
        for group in state.get("param_groups", ()):
            _check_meaning(group)
        super().__setstate__(state)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Raises:
            ValueError: If a setting is out of range, or a setting of `torch.optim.AdamW` would be ignored.
        """
        _check(param_group)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters and return the loss if a `closure` computes it."""
        loss = loss_of(closure)
        for group in self.param_groups:
            alike: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
            for param, grad in gradients(group, "AdamW"):
                alike.setdefault((param.device, param.dtype), []).append((param, grad))
            for (device, _), pairs in alike.items():
                params, grads = map(list, zip(*pairs, strict=True))
                states = [self._state_of(param) for param in params]
                if torch.compiler.is_compiling():
                    _update_compiled(params, grads, states, group)
                elif device.type == "cpu":
                    _update_in_chunks(params, grads, states, group)
                else:
                    _update_together(params, grads, states, group)
        return loss

    def _state_of(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if "step" not in state:
            # As a Python number it would be baked into the graph and force a recompile every step.
            state["step"] = torch.tensor(0.0, device="cpu")
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state


def _check(settings: dict[str, Any]) -> None:
    """Check the ranges of settings, of which a group may have only some."""
    check_not_negative(**{name: settings[name] for name in ("lr", "eps", "weight_decay") if name in settings})
    if "betas" in settings:
        beta1, beta2 = settings["betas"]
        check_fraction(beta1=beta1, beta2=beta2)
    _check_meaning(settings)


def _check_meaning(group: dict[str, Any]) -> None:
    """Check that no setting of `torch.optim.AdamW` or `Adam` asks for a different update."""
    check_absent("AdamW", group, ("amsgrad", "maximize"))
    if group.get("decoupled_weight_decay") is False and group.get("weight_decay"):
        raise ValueError(
            f"AdamW got a group of torch.optim.Adam with weight_decay={group['weight_decay']!r}, which Adam adds to "
            f"the gradient, expected decoupled weight decay; set it to 0 or use torch.optim.Adam"
        )


def _factors(state: dict[str, Any], group: dict[str, Any]) -> tuple[float, float]:
    """Count a step, and return its eps and learning rate, both multiplied by sqrt(1 - beta2^t).

    The factor in numerator and denominator of the update saves dividing v by 1 - beta2^t.
    """
    state["step"] += 1
    beta1, beta2 = group["betas"]
    steps = float(state["step"])
    correction = (1 - beta2**steps) ** 0.5
    return group["eps"] * correction, float(group["lr"]) * correction / (1 - beta1**steps)


def _update_together(
    params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
) -> None:
    """Update parameters of one device and dtype with one launch per operation."""
    beta1, beta2 = group["betas"]
    factors = [_factors(state, group) for state in states]
    means = [state["exp_avg"] for state in states]
    squares = [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, [eps for eps, _ in factors])
    if group["weight_decay"]:
        torch._foreach_mul_(params, 1 - float(group["lr"]) * group["weight_decay"])
    torch._foreach_addcdiv_(params, means, roots, [-rate for _, rate in factors])


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding parts of the tensors, or the tensors themselves if they are small or not contiguous.

    Subclasses of tensors, such as those sharded among processes, are not split, because their parts may be copies.
    """
    size = _NUMBERS_PER_THREAD * torch.get_num_threads()
    are_plain = all(type(tensor) in (Tensor, nn.Parameter) and tensor.is_contiguous() for tensor in tensors)
    if tensors[0].numel() <= size or not are_plain:
        yield tensors
    else:
        yield from zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True)


def _update_in_chunks(
    params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
) -> None:
    """Update parameters one by one, each in parts that stay in the caches."""
    beta1, beta2 = group["betas"]
    kept = 1 - float(group["lr"]) * group["weight_decay"]
    for whole, whole_grad, state in zip(params, grads, states, strict=True):
        eps, rate = _factors(state, group)
        for param, grad, mean, square in _chunks(whole, whole_grad, state["exp_avg"], state["exp_avg_sq"]):
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            root = square.sqrt().add_(eps)
            if kept != 1:
                param.mul_(kept)
            param.addcdiv_(mean, root, value=-rate)


def _update_compiled(
    params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
) -> None:
    """Update parameters in operations that a compiler fuses, with step counts as tensors to avoid recompiling."""
    beta1, beta2 = group["betas"]
    for state in states:
        if not isinstance(state["step"], Tensor):
            state["step"] = torch.tensor(float(state["step"]), device="cpu")
        state["step"] += 1
    # float64, because 1 - beta2^t is a difference of almost equal numbers.
    steps = torch.stack([state["step"] for state in states]).double()
    corrections = (1 - beta2**steps).sqrt()
    factors = torch.stack((group["eps"] * corrections, group["lr"] * corrections / (1 - beta1**steps)))
    dtype = torch.promote_types(params[0].dtype, torch.float32)
    factors = factors.to(params[0].device, dtype, non_blocking=True)  # The host does not wait for a GPU.
    for index, (param, grad, state) in enumerate(zip(params, grads, states, strict=True)):
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        change = mean / (square.sqrt() + factors[0, index]) * factors[1, index]
        param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change)
