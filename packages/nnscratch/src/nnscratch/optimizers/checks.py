"""Checks of hyperparameters and gradients, and the loss of a closure, which all optimizers share."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def check_not_negative(**values: float) -> None:
    """Check that hyperparameters are finite and at least 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r} is out of range; choose a finite number of at least 0")


def check_fraction(**values: float) -> None:
    """Check that decay rates are in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value!r} is out of range; choose a number of at least 0 and below 1")


def check_switches(**values: object) -> None:
    """Check that settings are True or False."""
    for name, value in values.items():
        if value is not True and value is not False:
            raise ValueError(f"{name}={value!r} is not a switch; choose True or False")


def check_absent(optimizer: str, group: dict[str, Any], names: tuple[str, ...]) -> None:
    """Refuse active settings that torch's optimizer of the same name supports and this optimizer would ignore."""
    for name in names:
        if group.get(name):
            raise ValueError(
                f"{optimizer} got a group with {name}={group[name]!r}, which it does not support; switch it off, "
                f"leave it out, or use torch.optim.{optimizer}"
            )


def gradients(group: dict[str, Any], optimizer: str) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of a parameter and its gradient, for the parameters of a group that have a gradient.

    Raises:
        ValueError: If a gradient is sparse.
    """
    pairs = [(param, param.grad) for param in group["params"] if param.grad is not None]
    for param, grad in pairs:
        if grad.is_sparse:
            raise ValueError(
                f"{optimizer} got a sparse gradient for a parameter of shape {tuple(param.shape)}; make it dense, or "
                f"give the parameter to RowwiseAdagrad"
            )
    return pairs


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """Return the loss that the closure of `step` computes with gradients, or None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
