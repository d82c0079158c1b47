"""Momentum whose updates are made orthogonal."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_fraction, check_not_negative, gradients

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EPS = 1e-7


def orthogonalize(
    matrices: Float[Tensor, "*batch rows columns"], steps: int = 5, dtype: torch.dtype | None = None
) -> Float[Tensor, "*batch rows columns"]:
    """Return approximately the nearest matrices whose singular values are all 1, by Newton–Schulz iteration.

    X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, after division by the Frobenius norm, with (a, b, c) chosen for a steep start
    rather than for convergence (Jordan et al. 2024): singular values end up at about 0.7 to 1.2.

    Args:
        matrices: the matrices.
        steps: number of iterations.
        dtype: type of the products; by default bfloat16 on CUDA, and elsewhere, where it is slow, float32.
    """
    if dtype is None:
        dtype = torch.bfloat16 if matrices.device.type == "cuda" else torch.float32
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_EPS)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(optim.Optimizer):
    """Momentum with orthogonalised updates, for the matrices inside of a network (Jordan et al. 2024).

    m = momentum · m + (1 - momentum) · grad
    u = orthogonalize(momentum · m + (1 - momentum) · grad)    (m itself without `nesterov`)
    param -= lr · weight_decay · param
    param -= lr · sqrt(max(1, rows / columns)) · u

    The same as `torch.optim.Muon` with its default adjustment of the rate, where products are in the same dtype.
    Embeddings, output layer and gains belong to `AdamW`.

    Args:
        params: two-dimensional parameters or groups of them.
        lr: learning rate, in units of the spectral norm of an update.
        momentum: decay rate of the gradient's mean, per step.
        nesterov: look one step of momentum ahead.
        weight_decay: fraction by which a parameter shrinks in one step, per unit of `lr`.
        newton_schulz_steps: iterations of `orthogonalize`.
        newton_schulz_dtype: type of its products; by default bfloat16 on CUDA and float32 elsewhere.

    Raises:
        ValueError: if a hyperparameter is out of range, or a parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        *,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        newton_schulz_steps: int = 5,
        newton_schulz_dtype: torch.dtype | None = None,
    ) -> None:
        check_not_negative(lr=lr, weight_decay=weight_decay)
        check_fraction(momentum=momentum)
        if newton_schulz_steps < 1:
            raise ValueError(f"newton_schulz_steps={newton_schulz_steps!r} does nothing; choose at least 1")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "newton_schulz_steps": newton_schulz_steps,
            "newton_schulz_dtype": newton_schulz_dtype,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Raises:
            ValueError: if one of them is not a matrix.
        """
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
        for param in params:
            if not self.state[param]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)
        means = [self.state[param]["momentum_buffer"] for param in params]
        torch._foreach_lerp_(means, grads, 1 - group["momentum"])
        directions = torch._foreach_lerp(grads, means, group["momentum"]) if group["nesterov"] else means
        steps, dtype = group["newton_schulz_steps"], group["newton_schulz_dtype"]
        updates = orthogonalize(torch.stack(tuple(directions)), steps, dtype)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        rows, columns = params[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_add_(params, list(updates.unbind()), alpha=-rate)
