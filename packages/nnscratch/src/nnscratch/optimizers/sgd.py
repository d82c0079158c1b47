"""Stochastic gradient descent with the assignment's decaying rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SGD(Optimizer):
    """theta <- theta - lr / sqrt(t + 1) * gradient, t = 0, 1, ... (the assignment's section 4.2).

    Differs from torch.optim.SGD by the decay, and has no momentum.

    Args:
        params: parameters or groups of them.
        lr: the rate of the first step.

    Raises:
        ValueError: a negative rate.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 1e-3) -> None:
        if lr < 0:
            raise ValueError(f"lr is {lr!r}: expected 0 or more")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure`, if given, computes the loss again and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                step = state.get("step", 0)
                parameter.add_(parameter.grad, alpha=-group["lr"] / (step + 1) ** 0.5)
                state["step"] = step + 1
        return loss
