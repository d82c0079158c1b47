"""Row-wise Adagrad: a learning rate for each row of a table, of which a step changes only the rows in use."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_not_negative, loss_of


class RowwiseAdagrad(optim.Optimizer):
    """Adagrad with one learning rate per row, for embedding tables (Duchi et al. 2011; row-wise: Naumov et al. 2019).

    For a row w with the gradient g in its t-th step:

    s = s + mean(g²)
    rate = lr / t^power
    w -= rate · weight_decay · w
    w -= rate · g / (sqrt(s / t) + eps)

    A row that is not in use in a step does not change, and its t and s stay: no decay, no counting. In use are the rows
    of a sparse gradient, as that of `HashedNGramEmbedding`, or the rows of a dense gradient that are not all zero. The
    steps of a row get smaller the more often it has been used. With `power` 0.5 they are those of row-wise Adagrad.

    The state of a parameter has two numbers per row, in float32: `step` (t) and `square_sum` (s).

    Args:
        params: Tables, (rows, width) in float32 or wider, or parameter groups.
        lr: Learning rate: about the root mean square of the first change of a row.
        power: How fast the learning rate of a row falls with its number of steps; 0 for a constant one.
        eps: Added to the root mean square, in the unit of the gradient.
        weight_decay: Fraction by which a row in use shrinks in a step, per unit of its learning rate.

    Raises:
        ValueError: If a hyperparameter is out of range, or a parameter is not a matrix in float32 or float64.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        power: float = 0.5,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "power": power, "eps": eps, "weight_decay": weight_decay}
        check_not_negative(**defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add tables with their own settings.

        Raises:
            ValueError: If a setting is out of range, or a parameter is not a matrix in float32 or float64.
        """
        names = ("lr", "power", "eps", "weight_decay")
        check_not_negative(**{name: param_group[name] for name in names if name in param_group})
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            # torch would convert a loaded state to a narrower dtype, in which sums of many squares stop growing.
            if param.dim() != 2 or param.dtype not in (torch.float32, torch.float64):
                del self.param_groups[-1]
                raise ValueError(
                    f"RowwiseAdagrad got a parameter of shape {tuple(param.shape)} and dtype {param.dtype}, expected "
                    f"(rows, width) in float32 or float64; give others to AdamW"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the rows in use and return the loss if a `closure` computes it."""
        loss = loss_of(closure)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and param.grad.is_sparse:
                    grad = param.grad.coalesce()
                    _update_rows(param, grad.indices()[0], grad.values(), self._state_of(param), group)
                elif param.grad is not None:
                    # A mask, because the indices of these rows would make the host wait for a GPU.
                    _update(param, param.grad, self._state_of(param), group, param.grad.any(dim=1))
        return loss

    def _state_of(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if "step" not in state:
            for name in ("step", "square_sum"):
                state[name] = torch.zeros(param.shape[0], dtype=torch.float32, device=param.device)
        return state


def _update_rows(param: Tensor, rows: Tensor, grads: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Update some rows of a table, each given once, and the state of these rows."""
    selected = param.index_select(0, rows)
    part = {name: state[name].index_select(0, rows) for name in ("step", "square_sum")}
    _update(selected, grads, part, group, 1.0)
    param.index_copy_(0, rows, selected)
    for name, values in part.items():
        state[name].index_copy_(0, rows, values.to(state[name].dtype))


def _update(param: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], in_use: Tensor | float) -> None:
    """Update the rows of a table for which `in_use` is 1."""
    state["step"] += in_use
    state["square_sum"] += grad.square().mean(1)
    steps = state["step"].clamp(min=1)
    rates = group["lr"] * steps ** -group["power"] * in_use
    scales = rates / ((state["square_sum"] / steps).sqrt() + group["eps"])
    param.mul_((1 - rates * group["weight_decay"]).to(param.dtype).unsqueeze(1))
    param.addcmul_(grad, scales.to(param.dtype).unsqueeze(1), value=-1)
