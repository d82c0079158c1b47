"""Several optimizers in the place of one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import optim

_INDEX = "optimizer_index"


class CombinedOptimizer(optim.Optimizer):
    """Steps several optimizers, each on parameters of its own, as one.

    Its groups are those of all, in their order, so that schedules, clipping and checkpoints meet one optimizer: the
    state of a parameter is the one that its optimizer keeps.

    Args:
        optimizers: at least one; they are not to be stepped by themselves any more.

    Raises:
        ValueError: if there is no optimizer, or two have the same parameter.
    """

    def __init__(self, optimizers: Sequence[optim.Optimizer]) -> None:
        if not optimizers:
            raise ValueError("optimizers is empty: expected at least one optimizer")
        groups = []
        for index, optimizer in enumerate(optimizers):
            for group in optimizer.param_groups:
                groups.append({**group, _INDEX: index})
        super().__init__(groups, {})  # refuses a parameter that is in two groups
        self._optimizers = list(optimizers)
        for optimizer in optimizers:
            self.state.update(optimizer.state)
        self._share()

    @property
    def optimizers(self) -> tuple[optim.Optimizer, ...]:
        """The optimizers, in their order; `torch.compile` takes the step of each, and not of all as one."""
        return tuple(self._optimizers)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of."""
        return {**super().__getstate__(), "_optimizers": self._optimizers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, and let the optimizers see it."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Let every optimizer work on this one's groups and state, which loading a state replaces."""
        for index, optimizer in enumerate(self._optimizers):
            groups = [group for group in self.param_groups if group[_INDEX] == index]
            optimizer.__setstate__({"state": self.state, "param_groups": groups})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the optimizer whose number the group has as "optimizer_index".

        Raises:
            ValueError: if the group has no such number, or no optimizer has it.
        """
        if _INDEX not in param_group:
            raise ValueError(
                f"a group for {type(self).__name__} needs {_INDEX!r}: which optimizer it belongs to, from 0"
            )
        if not hasattr(self, "_optimizers"):  # while it is made
            super().add_param_group(param_group)
            return
        index, count = param_group[_INDEX], len(self._optimizers)
        if index not in range(count):
            raise ValueError(f"{_INDEX}={index!r} came, but there are {count} optimizers; choose 0 to {count - 1}")
        owner = self._optimizers[index]
        owner.add_param_group({name: value for name, value in param_group.items() if name != _INDEX})
        super().add_param_group({**owner.param_groups.pop(), _INDEX: index})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters, and return the loss if a `closure` computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss
