"""Momentum whose updates are made orthogonal."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_fraction, check_not_negative, check_switches, gradients
from nnscratch.optimizers.orthogonalization import Coefficients, check_coefficients, orthogonalize

__all__ = ["Muon", "orthogonalize"]

_EPS = 1e-8


class Muon(optim.Optimizer):
    """Momentum with orthogonalised updates, for the matrices inside of a network (Jordan et al. 2024).

    m = momentum · m + (1 - momentum) · grad
    u = orthogonalize(momentum · m + (1 - momentum) · grad)    (m itself without `nesterov`)
    param -= lr · weight_decay · param
    param -= lr · sqrt(max(1, rows / columns)) · u

    With `normuon` rows of u, which belong to output neurons, are brought to like size before they are used (Li et al.
    2025, arXiv 2510.05491), where the paper gives the result a root mean square of 0.2 and here it keeps its norm:

    s = beta2 · s + (1 - beta2) · mean of u² over columns
    w = u / (sqrt(s) + 1e-8)
    u = w · |u| / |w|    (Frobenius norms)

    With `cautious_weight_decay` only those numbers of a parameter decay that the update makes smaller, or leaves
    alone: where u · param >= 0 (Chen et al. 2025, arXiv 2510.12402).

    Without the last two and with "newton-schulz" it is `torch.optim.Muon` with its default adjustment of the rate,
    where products are in the same dtype: torch's are always in bfloat16, these by default only on CUDA. Matrices of one
    shape are orthogonalised as one batch. Embeddings, output layer and gains belong to `AdamW`.

    Args:
        params: two-dimensional parameters or groups of them; a group may have any of the settings below for itself.
        lr: learning rate, in units of the spectral norm of an update.
        momentum: decay rate of the gradient's mean, per step.
        nesterov: look one step of momentum ahead.
        weight_decay: fraction by which a parameter shrinks in one step, per unit of `lr`.
        cautious_weight_decay: do not pull against the update.
        coefficients: the polynomials of `orthogonalize`: "newton-schulz", or the more exact "polar-express".
        newton_schulz_steps: iterations of `orthogonalize`, with either.
        newton_schulz_dtype: type of its products; by default bfloat16 on CUDA and float32 elsewhere.
        normuon: divide rows by their root mean square.
        beta2: decay rate of the rows' mean square, per step.

    Raises:
        ValueError: if a hyperparameter is out of range, or a parameter is not a matrix.
    """

    step_compiles: ClassVar[bool] = True
    """`torch.compile(optimizer.step)` makes one program for any `lr` that is a tensor of one number."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        *,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        cautious_weight_decay: bool = False,
        coefficients: Coefficients = "newton-schulz",
        newton_schulz_steps: int = 5,
        newton_schulz_dtype: torch.dtype | None = None,
        normuon: bool = False,
        beta2: float = 0.95,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "cautious_weight_decay": cautious_weight_decay,
            "coefficients": coefficients,
            "newton_schulz_steps": newton_schulz_steps,
            "newton_schulz_dtype": newton_schulz_dtype,
            "normuon": normuon,
            "beta2": beta2,
        }
        _check(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; settings that an older one lacks are those of this optimizer."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Raises:
            ValueError: if one of them is not a matrix, or a setting is out of range.
        """
        _check(param_group)
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if param.dim() != 2:
                del self.param_groups[-1]
                raise ValueError(
                    f"Muon got a parameter of shape {tuple(param.shape)}, expected matrices; give it to AdamW instead"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters, and return the loss if a `closure` computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[Any, ...], list[tuple[Tensor, Tensor]]] = {}
            for param, grad in gradients(group, "Muon"):
                alike.setdefault((param.shape, param.dtype, param.device), []).append((param, grad))
            for pairs in alike.values():  # matrices of one shape are orthogonalised as one batch
                params, grads = map(list, zip(*pairs, strict=True))
                self._update(params, grads, group)
        return loss

    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[param] for param in params]
        for param, state in zip(params, states, strict=True):
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(param)
        means = [state["momentum_buffer"] for state in states]
        torch._foreach_lerp_(means, grads, 1 - group["momentum"])
        directions = torch._foreach_lerp(grads, means, group["momentum"]) if group["nesterov"] else means
        updates = orthogonalize(
            torch.stack(tuple(directions)),
            group["newton_schulz_steps"],
            group["newton_schulz_dtype"],
            group["coefficients"],
        )
        if group["normuon"]:
            updates = _with_rows_alike(updates, states, group["beta2"])
        _decay(params, updates, group)
        rows, columns = params[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        if torch.compiler.is_compiling():  # where the rate may be a tensor, and what belongs together is fused
            for param, update in zip(params, updates.unbind(), strict=True):
                param.sub_(update * rate)
        else:
            torch._foreach_add_(params, list(updates.unbind()), alpha=-float(rate))


def _check(settings: dict[str, Any]) -> None:
    """Refuse settings out of range, of which a group may have only some."""
    check_not_negative(**{name: settings[name] for name in ("lr", "weight_decay") if name in settings})
    check_fraction(**{name: settings[name] for name in ("momentum", "beta2") if name in settings})
    switches = ("nesterov", "cautious_weight_decay", "normuon")
    check_switches(**{name: settings[name] for name in switches if name in settings})
    if "coefficients" in settings:
        check_coefficients(settings["coefficients"])
    if settings.get("newton_schulz_steps", 1) < 1:
        raise ValueError(f"newton_schulz_steps={settings['newton_schulz_steps']!r} does nothing; choose at least 1")


def _with_rows_alike(
    updates: Float[Tensor, "matrices rows columns"], states: list[dict[str, Any]], beta2: float
) -> Float[Tensor, "matrices rows columns"]:
    """Return the updates with each row divided by the root of its mean square over the steps, and the norm as before.

    The mean square starts at 0 and needs no correction for that, because a factor common to all rows cancels.
    """
    squares = updates.square().mean(-1, keepdim=True)
    for state in states:
        if "row_mean_square" not in state:
            state["row_mean_square"] = squares.new_zeros(squares.shape[1:])
    means = [state["row_mean_square"] for state in states]
    torch._foreach_lerp_(means, list(squares.unbind()), 1 - beta2)
    scaled = updates / (torch.stack(means).sqrt() + _EPS)
    norms = torch.linalg.matrix_norm(updates, keepdim=True)
    return scaled * (norms / torch.linalg.matrix_norm(scaled, keepdim=True).clamp(min=_EPS))


def _decay(params: list[Tensor], updates: Float[Tensor, "matrices rows columns"], group: dict[str, Any]) -> None:
    """Shrink the parameters, or with `cautious_weight_decay` what the updates shrink as well."""
    if not group["weight_decay"]:
        return
    rate = group["lr"] * group["weight_decay"]
    if torch.compiler.is_compiling():
        for param, update in zip(params, updates.unbind(), strict=True):
            decay = param * rate
            if group["cautious_weight_decay"]:
                decay = torch.where(param * update >= 0, decay, 0.0)
            param.sub_(decay)
        return
    if not group["cautious_weight_decay"]:
        torch._foreach_mul_(params, 1 - float(rate))
        return
    for param, update in zip(params, updates.unbind(), strict=True):
        param.addcmul_(param, param * update >= 0, value=-float(rate))
