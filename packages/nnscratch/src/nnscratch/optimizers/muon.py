"""Muon: momentum with orthogonalized updates.

For a single matrix, and without the options, a step is

    mean.lerp_(grad, 1 - momentum)
    update = orthogonalize(grad.lerp(mean, momentum))
    param.mul_(1 - lr * weight_decay)
    param.sub_(lr * max(1, rows / columns) ** 0.5 * update)

The code below does the same at once for all matrices of one shape, and for those of the transposed one, because the
orthogonalized transpose is the transpose of the orthogonalized matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, optim

from nnscratch.optimizers.checks import check_fraction, check_not_negative, check_switches, gradients, loss_of
from nnscratch.optimizers.orthogonalization import Coefficients, check_coefficients, orthogonalize, product_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup, Work

_EPS = 1e-8


class Muon(optim.Optimizer):
    """Momentum with orthogonalized updates, for the matrices inside a network (Jordan et al. 2024).

    m = momentum · m + (1 - momentum) · grad
    u = orthogonalize(momentum · m + (1 - momentum) · grad)    (m itself without `nesterov`)
    param -= lr · weight_decay · param
    param -= lr · sqrt(max(1, rows / columns)) · u

    With `normuon` the rows of u, one per output neuron, are scaled to similar size (Li et al. 2025, arXiv 2510.05491).
    The paper scales the result to a root mean square of 0.2; here it keeps its norm:

    s = beta2 · s + (1 - beta2) · mean of u² over columns
    w = u / (sqrt(s) + 1e-8)
    u = w · |u| / |w|    (Frobenius norms)

    With `cautious_weight_decay` only numbers that the update does not increase in magnitude decay: those with
    u · param >= 0 (Chen et al. 2025, arXiv 2510.12402).

    Without these two options and with "newton-schulz", the optimizer equals `torch.optim.Muon` with its default
    adjustment of the learning rate, if products are in the same dtype: torch always uses bfloat16, this optimizer by
    default only on CUDA. Matrices of one shape, and of the transposed one, are orthogonalized as one batch.
    Embeddings, output layer and gains belong to `AdamW`.

    Orthogonalization is most of the work of an update, and processes that step together may share it (`share_among`).
    The directions of sharded matrices (FSDP2) are gathered one by one. Whole ones of one batch are in memory at once:
    those that this process orthogonalizes, and all updates.

    Args:
        params: Matrices or parameter groups; a group may have its own value for any setting below.
        lr: Learning rate, in units of the spectral norm of an update.
        momentum: Decay rate of the mean of the gradient, per step.
        nesterov: Look one step of momentum ahead.
        weight_decay: Fraction by which a parameter shrinks in one step, per unit of `lr`.
        cautious_weight_decay: Decay only where decay does not oppose the update.
        coefficients: Polynomials of `orthogonalize`: "newton-schulz", or the more exact "polar-express".
        newton_schulz_steps: Number of iterations of `orthogonalize`, with either.
        newton_schulz_dtype: Dtype of its products; by default bfloat16 on CUDA and float32 elsewhere.
        normuon: Divide rows by their root mean square.
        beta2: Decay rate of the mean square of rows, per step.

    Raises:
        ValueError: If a hyperparameter is out of range, or a parameter is not a matrix.
    """

    _process_group: ProcessGroup | None = None

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
        """Restore a state; settings missing from an older state keep the values of this optimizer."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Raises:
            ValueError: If a parameter is not a matrix, or a setting is out of range.
        """
        _check(param_group)
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if param.dim() != 2:
                del self.param_groups[-1]
                raise ValueError(
                    f"Muon got a parameter of shape {tuple(param.shape)}, expected matrices; give it to AdamW instead"
                )

    @property
    def step_compiles(self) -> bool:
        """True if `torch.compile(optimizer.step)` gives one program for all rates, decays and momenta that are tensors.

        False while processes share the work, because one whose compiler fails would leave the others waiting.
        """
        return self._process_group is None

    def share_among(self, process_group: ProcessGroup | None) -> None:
        """Orthogonalize only this process's share of the matrices from now on, and get the rest from the others.

        Of n matrices in a batch, each of w processes orthogonalizes ceil(n / w). One of r rows and c columns, r <= c,
        takes 5 · (4 r² c + 2 r³) FLOPs with 5 iterations. All processes then gather the results, in the narrower dtype
        of parameters and products. So every process has the same update to the bit. Parameters and states stay whole in
        each process, and so do state dicts.

        All processes of the group must make all steps, with the same gradients for the same matrices. One that steps
        alone waits for the others.

        Args:
            process_group: The processes that hold the same parameters, such as `torch.distributed.group.WORLD` under
                DDP or FSDP2; None if this process works alone again.
        """
        self._process_group = process_group

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters and return the loss if a `closure` computes it."""
        loss = loss_of(closure)
        pending: list[tuple[list[Tensor], Tensor, dict[str, Any], Work]] = []
        for group in self.param_groups:
            alike: dict[tuple[Any, ...], list[tuple[Tensor, Tensor]]] = {}
            for param, grad in gradients(group, "Muon"):
                alike.setdefault((*sorted(param.shape), param.dtype, param.device), []).append((param, grad))
            for pairs in alike.values():
                pairs.sort(key=lambda pair: _is_tall(pair[0]))
                params, grads = map(list, zip(*pairs, strict=True))
                updates, gathering = self._orthogonalized(params, grads, group)
                if gathering is None:
                    self._apply(params, updates, group)
                else:
                    pending.append((params, updates, group, gathering))
        for params, updates, group, gathering in pending:
            gathering.wait()
            self._apply(params, updates, group)
        return loss

    def _orthogonalized(
        self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]
    ) -> tuple[Float[Tensor, "matrices short long"], Work | None]:
        """Return the updates of matrices, with tall ones transposed, and the operation that still gathers them."""
        for param in params:
            if "momentum_buffer" not in self.state[param]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)
        means = [self.state[param]["momentum_buffer"] for param in params]
        if isinstance(group["momentum"], Tensor):
            torch._foreach_add_(means, _shares(means, grads, 1 - group["momentum"]))
        else:
            torch._foreach_lerp_(means, grads, 1 - group["momentum"])
        count, ranks = len(params), 1
        own = range(count)
        if self._process_group is not None and count > 1:
            ranks, rank = dist.get_world_size(self._process_group), dist.get_rank(self._process_group)
            share = -(-count // ranks)
            own = own[rank * share : (rank + 1) * share]
        if not _is_sharded(params[0]):
            grads, means = [grads[index] for index in own], [means[index] for index in own]
        directions = _lerp(grads, means, group["momentum"]) if group["nesterov"] and grads else means
        if _is_sharded(params[0]):
            directions = [whole for index, whole in enumerate(map(_whole, directions)) if index in own]
        settings = group["newton_schulz_steps"], group["newton_schulz_dtype"], group["coefficients"]
        dtype = product_dtype(params[0].device, group["newton_schulz_dtype"])
        dtype = dtype if dtype.itemsize < params[0].dtype.itemsize else params[0].dtype
        directions = [direction.to(dtype) for direction in directions]  # before they are copied into one tensor
        if ranks == 1:
            return orthogonalize(_batch(directions), *settings), None
        updates = torch.empty(share, *sorted(params[0].shape), dtype=dtype, device=params[0].device)
        if directions:
            updates[: len(directions)] = orthogonalize(_batch(directions), *settings)
        everyones = updates.new_empty(ranks * share, *updates.shape[1:])
        # As bytes, because not every version of gloo knows bfloat16.
        whole, part = everyones.view(torch.uint8), updates.view(torch.uint8)
        is_new = hasattr(dist, "all_gather_single")  # torch 2.13 renamed it
        gather = dist.all_gather_single if is_new else dist.all_gather_into_tensor
        return everyones[:count], gather(whole, part, self._process_group, async_op=True)

    def _apply(
        self, params: list[Tensor], updates: Float[Tensor, "matrices short long"], group: dict[str, Any]
    ) -> None:
        """Update matrices of one shape, and after them those of the transposed shape."""
        tall = sum(map(_is_tall, params))
        wide = len(params) - tall
        if wide:
            self._apply_to_one_shape(params[:wide], updates[:wide], group)
        if tall:
            self._apply_to_one_shape(params[wide:], updates[wide:].mT, group)

    def _apply_to_one_shape(
        self, params: list[Tensor], updates: Float[Tensor, "matrices rows columns"], group: dict[str, Any]
    ) -> None:
        """Update matrices of one shape, dtype and device; of sharded ones, the own shards."""
        updates = updates.to(params[0].dtype)
        if group["normuon"]:
            updates = _with_similar_rows(updates, [self.state[param] for param in params], group["beta2"])
        rows, columns = params[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        shards = [_shard_like(param, update) for param, update in zip(params, updates.unbind(), strict=True)]
        params = [_own_part(param) for param in params]
        _decay(params, shards, group)
        if torch.compiler.is_compiling():  # The rate may be a tensor here, and the compiler fuses the operations.
            torch._foreach_sub_(params, torch._foreach_mul(shards, rate))
        else:
            torch._foreach_add_(params, shards, alpha=-float(rate))


def _check(settings: dict[str, Any]) -> None:
    """Check the ranges of settings, of which a group may have only some."""
    check_not_negative(**{name: settings[name] for name in ("lr", "weight_decay") if name in settings})
    check_fraction(**{name: settings[name] for name in ("momentum", "beta2") if name in settings})
    switches = ("nesterov", "cautious_weight_decay", "normuon")
    check_switches(**{name: settings[name] for name in switches if name in settings})
    if "coefficients" in settings:
        check_coefficients(settings["coefficients"])
    if settings.get("newton_schulz_steps", 1) < 1:
        raise ValueError(f"newton_schulz_steps={settings['newton_schulz_steps']!r} is out of range; choose at least 1")


def _shares(starts: list[Tensor], ends: list[Tensor], weight: Tensor) -> tuple[Tensor, ...]:
    """Return weight · (end - start) of each pair: the steps of a lerp, whose weights must be numbers."""
    return torch._foreach_mul(torch._foreach_sub(ends, starts), weight)


def _lerp(starts: list[Tensor], ends: list[Tensor], weight: float | Tensor) -> tuple[Tensor, ...]:
    """Return start + weight · (end - start) of each pair."""
    if isinstance(weight, Tensor):
        return torch._foreach_add(starts, _shares(starts, ends, weight))
    return torch._foreach_lerp(starts, ends, weight)


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


def _batch(matrices: list[Tensor]) -> Float[Tensor, "matrices short long"]:
    """Return matrices of one shape, followed by any of the transposed shape, as one tensor.

    The compiler transposes as part of the next operation if it gets them together, but one by one in passes of its own.
    """
    tall = sum(map(_is_tall, matrices))
    if tall == 0:
        return torch.stack(matrices)
    transposed = torch.stack(matrices[-tall:]).mT
    return transposed if tall == len(matrices) else torch.cat((torch.stack(matrices[:-tall]), transposed))


def _with_similar_rows(
    updates: Float[Tensor, "matrices rows columns"], states: list[dict[str, Any]], beta2: float
) -> Float[Tensor, "matrices rows columns"]:
    """Return updates of the same norm in which each row is divided by the root of its mean square over the steps.

    The mean square starts at 0 without a bias correction, because a factor common to all rows cancels.
    """
    squares = updates.square().mean(-1, keepdim=True)
    for state in states:
        if "row_mean_square" not in state:
            state["row_mean_square"] = squares.new_zeros(squares.shape[1:])
    means = [_own_part(state["row_mean_square"]) for state in states]  # whole also if the parameters are sharded
    torch._foreach_lerp_(means, list(squares.unbind()), 1 - beta2)
    scaled = updates / (torch.stack(means).sqrt() + _EPS)
    norms = torch.linalg.matrix_norm(updates, keepdim=True)
    return scaled * (norms / torch.linalg.matrix_norm(scaled, keepdim=True).clamp(min=_EPS))


def _decay(params: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
    """Shrink the parameters; with `cautious_weight_decay` only where the update does not oppose it."""
    if not isinstance(group["weight_decay"], Tensor) and not group["weight_decay"]:
        return
    rate = group["lr"] * group["weight_decay"]
    if torch.compiler.is_compiling():
        decays = torch._foreach_mul(params, rate)
        if group["cautious_weight_decay"]:
            triples = zip(params, updates, decays, strict=True)
            decays = tuple(torch.where(param * update >= 0, decay, 0.0) for param, update, decay in triples)
        torch._foreach_sub_(params, decays)
        return
    if not group["cautious_weight_decay"]:
        torch._foreach_mul_(params, 1 - float(rate))
        return
    for param, update in zip(params, updates, strict=True):
        param.addcmul_(param, param * update >= 0, value=-float(rate))


def _is_sharded(tensor: object) -> bool:
    """Return whether a tensor is a DTensor, without importing a class that only several processes use."""
    return hasattr(tensor, "device_mesh")


def _own_part(tensor: Any) -> Tensor:
    """Return the part of a tensor that this process holds; it is no copy."""
    part: Tensor = tensor.to_local() if _is_sharded(tensor) else tensor
    return part


def _whole(tensor: Any) -> Tensor:
    """Return all of a sharded tensor; all processes must call this."""
    whole: Tensor = tensor.full_tensor()
    return whole


def _shard_like(param: Any, whole: Tensor) -> Tensor:
    """Return the part of a whole tensor that belongs to the part of a parameter that this process holds."""
    if not _is_sharded(param):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    mesh = param.device_mesh
    copies = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return _own_part(copies.redistribute(placements=param.placements))
