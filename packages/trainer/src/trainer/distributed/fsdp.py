"""FSDP2: parameters, gradients and the optimizer's state are sharded over the processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.optim import Optimizer

from trainer.distributed.parallel import CalledModule, Parallel, share_updates
from trainer.distributed.processes import Processes

Result = TypeVar("Result")


class ShardedParallel(Parallel):
    """Each process has a shard of every parameter, and a share of every batch.

    The children of the model's `ModuleList`s are gathered one after the other as they are used, everything else for the
    whole pass. A copy is sharded: the caller's model stays whole and where it is, and gets the weights at the end. The
    optimizer works on the copy until then.

    Raises:
        ValueError: If the optimizer has a state already or parameters of another model, or units share a parameter.
    """

    name = "fsdp"
    is_sharded = True

    def __init__(self, model: nn.Module, optimizer: Optimizer, processes: Processes, device: torch.device) -> None:
        names = {id(value): name for name, value in model.named_parameters()}
        _check_optimizer(optimizer, names)
        units = list(_units(model))
        _check_sharing(model, units)
        self._whole = model
        _take_from_writer(model, device)
        sharded = copy.deepcopy(model)
        sharded.zero_grad(set_to_none=True)
        mesh = init_device_mesh(device.type, (processes.world_size,))
        for unit in _units(sharded):
            fully_shard(unit, mesh=mesh)
        self._wrapped = CalledModule(sharded)
        fully_shard(self._wrapped, mesh=mesh)
        parameters = dict(sharded.named_parameters())
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["params"] = [parameters[names[id(parameter)]] for parameter in group["params"]]
        self.model, self.optimizer, self.processes, self.device = sharded, optimizer, processes, device
        share_updates(optimizer, dist.group.WORLD)

    def differentiate(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments), for a backward pass, after which gradients are reduced and sharded."""
        result: Result = self._wrapped(function, *arguments)
        return result

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return function(model, *arguments); all processes have to make the same calls of the model."""
        result: Result = self._wrapped(function, *arguments)
        assert isinstance(self._wrapped, FSDPModule)
        self._wrapped.reshard()
        return result

    def norm(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return the L2 norm of several sharded tensors together."""
        parts = [self.own_part(tensor) for tensor in tensors]
        squares = nn.utils.get_total_norm([part for part in parts if part.numel()]).to(self.device).square()
        return self.processes.sum(squares).sqrt()

    def own_part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the shard of a tensor that this process holds; it is no copy."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def gather(self, state: Any) -> Any:
        """Return a nested state with whole tensors on the CPU of rank 0, and without them elsewhere.

        One tensor at a time is whole on the device.
        """
        if isinstance(state, DTensor):
            whole: torch.Tensor = state.full_tensor().detach()
            return whole.cpu() if self.processes.is_rank_0 else None
        if isinstance(state, dict):
            return {name: self.gather(value) for name, value in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(map(self.gather, state))
        return state

    def shard_like(self, parameter: torch.Tensor, value: Any) -> Any:
        """Return a whole tensor, which every process has, sharded like a parameter.

        A value of another shape is not sharded: every process has a copy.
        """
        if not isinstance(parameter, DTensor) or not isinstance(value, torch.Tensor) or value.dim() == 0:
            return value
        is_alike = value.shape == parameter.shape
        placements = parameter.placements if is_alike else [Replicate()] * parameter.device_mesh.ndim
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, placements)

    def finish(self) -> None:
        """Copy the weights into the caller's model, and give it the optimizer back, without a state."""
        with torch.no_grad():
            trained = self.model.state_dict()
            for name, value in self._whole.state_dict().items():
                if isinstance(value, torch.Tensor):
                    value.copy_(_whole(trained[name]))
        for group, parameters in zip(self.optimizer.param_groups, self._groups, strict=True):
            group["params"] = parameters
        self.optimizer.state.clear()


def _whole(value: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor, sharded or not; all processes must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _units(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the children of the outermost module lists, each once."""
    seen: set[nn.Module] = set()

    def visit(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            is_unit = isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict)
            if not is_unit:
                yield from visit(child)
            elif child not in seen and any(True for _ in child.parameters()):
                seen.add(child)
                yield child

    yield from visit(model)


def _check_optimizer(optimizer: Optimizer, names: Mapping[int, str]) -> None:
    if optimizer.state:
        raise ValueError("the optimizer has a state already: FSDP expects a new one; a resumed run loads its own")
    strangers = [
        tuple(parameter.shape)
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) not in names
    ]
    if strangers:
        raise ValueError(
            f"the optimizer has a parameter of the shape {strangers[0]} that is not the model's ({len(strangers)} in "
            "all): FSDP expects the model's own; build it from model.parameters(), with a model that is not compiled"
        )


def _check_sharing(model: nn.Module, units: list[nn.Module]) -> None:
    """FSDP would silently untie a parameter that two of its units share."""
    owners: dict[int, object] = {}
    in_units: dict[int, nn.Module] = {id(module): unit for unit in units for module in unit.modules()}
    for name, module in model.named_modules(remove_duplicate=False):
        owner = in_units.get(id(module), model)
        for short, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if owners.setdefault(id(parameter), owner) is not owner:
                raise ValueError(
                    f"{name}.{short} is shared between two blocks, which FSDP cannot shard: expected parameters to "
                    'be shared within a block or outside of all; use parallel="ddp"'
                )


def _take_from_writer(model: nn.Module, device: torch.device) -> None:
    """Give all processes the initial weights of rank 0."""
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            message = value.detach().to(device, copy=True)
            dist.broadcast(message, src=0)
            value.copy_(message)
