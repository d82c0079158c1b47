"""Muon: momentum whose matrices are made orthogonal."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

# A quintic that pushes singular values from (0, 1] towards 1 (Jordan et al. 2024, "Muon").
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrix: Float[Tensor, "rows columns"], iterations: int = ITERATIONS) -> Float[Tensor, "rows columns"]:
    """About U V^T for a matrix U S V^T, by Newton-Schulz iterations X <- a X + (b A + c A^2) X with A = X X^T.

    The singular values of the result lie in about (0.7, 1.2), not exactly at 1.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Update by m <- momentum m + g; theta <- theta - lr (orthogonalise(g + momentum m) scale + weight_decay theta).

    The scale is sqrt(max(1, rows / columns)). For the weight matrices of hidden layers; embeddings, the output matrix
    and norms belong to AdamW (Jordan et al. 2024).

    Args:
        params: matrices, or groups of them.
        lr: learning rate, in units of spectral norm per step.
        momentum: decay of the average, per step; Nesterov's form is used.
        weight_decay: share of a parameter that a step takes away, in units of lr.

    Raises:
        ValueError: a value outside of its range, or a parameter that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"lr, weight_decay and momentum are {lr!r}, {weight_decay!r}, {momentum!r}: expected 0 or more, "
                "and a momentum below 1"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(
                        f"got a parameter of shape {tuple(parameter.shape)}: expected a matrix; AdamW takes others"
                    )

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
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                update = orthogonalise(parameter.grad.add(average, alpha=group["momentum"]))
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
        return loss
