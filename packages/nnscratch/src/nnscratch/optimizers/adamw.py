"""Adam with decoupled weight decay."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_fraction, check_not_negative, gradients


class AdamW(optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    m = beta1 · m + (1 - beta1) · grad
    v = beta2 · v + (1 - beta2) · grad²
    param -= lr · weight_decay · param
    param -= lr · (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    These are the numbers of `torch.optim.AdamW`; only its defaults differ (weight_decay 0.01, foreach or fused by
    device). All tensors of a group are updated together. `lr` may be changed between steps.

    Args:
        params: parameters or groups of them.
        lr: learning rate: about the largest change of a parameter in one step.
        betas: decay rates of the mean and of the mean square of the gradient, per step.
        eps: added to the root mean square, in the unit of the gradient.
        weight_decay: fraction by which a parameter shrinks in one step, per unit of `lr`.

    Raises:
        ValueError: if a hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_fraction(beta1=betas[0], beta2=betas[1])
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters, and return the loss if a `closure` computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if pairs := gradients(group, "AdamW"):
                params, grads = map(list, zip(*pairs, strict=True))
                self._update(params, grads, group)
        return loss

    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        lr, eps, weight_decay = group["lr"], group["eps"], group["weight_decay"]
        states = [self.state[param] for param in params]
        for param, state in zip(params, states, strict=True):
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
            state["step"] += 1
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        # Both sides of the fraction times sqrt(1 - beta2^t), which spares a pass over the roots.
        corrections = [(1 - beta2 ** state["step"]) ** 0.5 for state in states]
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, [eps * correction for correction in corrections])
        if weight_decay:
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        factors = [
            -lr * correction / (1 - beta1 ** state["step"])
            for correction, state in zip(corrections, states, strict=True)
        ]
        torch._foreach_addcdiv_(params, means, roots, factors)
