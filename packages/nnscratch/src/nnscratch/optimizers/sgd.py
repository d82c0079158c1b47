"""Stochastic gradient descent with a learning rate that falls as the inverse square root of the step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_absent, check_not_negative, gradients, loss_of

_UNSUPPORTED = ("maximize", "momentum", "weight_decay")


class SGD(optim.Optimizer):
    """Stochastic gradient descent: param -= lr / sqrt(t + 1) · grad, with t = 0 at the first step.

    Plainly: `nnscratch.reference.sgd`. In contrast, `torch.optim.SGD` has a constant learning rate, and settings such
    as momentum, which are refused here.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate of the first step.

    Raises:
        ValueError: If `lr` is negative or not finite, or a group or a loaded state has a setting of `torch.optim.SGD`
            that would be ignored.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 1e-3) -> None:
        check_not_negative(lr=lr)
        super().__init__(params, {"lr": lr})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state, unless it has a setting that would be ignored."""
        for group in state.get("param_groups", ()):
            check_absent("SGD", group, _UNSUPPORTED)
        super().__setstate__(state)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own learning rate.

        Raises:
            ValueError: If the rate is out of range, or a setting of `torch.optim.SGD` would be ignored.
        """
        check_not_negative(lr=param_group.get("lr", 0.0))
        check_absent("SGD", param_group, _UNSUPPORTED)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters and return the loss if a `closure` computes it."""
        loss = loss_of(closure)
        for group in self.param_groups:
            for param, grad in gradients(group, "SGD"):
                t = self.state[param].get("t", 0)
                param.add_(grad, alpha=-group["lr"] / (t + 1) ** 0.5)
                self.state[param]["t"] = t + 1
        return loss
