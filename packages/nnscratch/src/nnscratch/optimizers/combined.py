"""Several optimizers combined into one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import optim

from nnscratch.optimizers.checks import loss_of

_INDEX = "optimizer_index"


class CombinedOptimizer(optim.Optimizer):
    """Several optimizers, each with its own parameters, that step as one.

    Its parameter groups are those of all optimizers in order, and the state of a parameter is that of its optimizer.
    Schedules, clipping and checkpoints therefore see a single optimizer.

    Args:
        optimizers: At least one optimizer; from now on only the combination may be stepped.

    Raises:
        ValueError: If there is no optimizer, or two have the same parameter.
    """

    def __init__(self, optimizers: Sequence[optim.Optimizer]) -> None:
        if not optimizers:
            raise ValueError("optimizers is empty, expected at least one optimizer")
        groups = []
        for index, optimizer in enumerate(optimizers):
            for group in optimizer.param_groups:
                groups.append({**group, _INDEX: index})
        super().__init__(groups, {})  # Refuses a parameter that is in two groups.
        self._optimizers = list(optimizers)
        for optimizer in optimizers:
            self.state.update(optimizer.state)
        self._share()

    @property
    def optimizers(self) -> tuple[optim.Optimizer, ...]:
        """The optimizers in order; `torch.compile` compiles the step of each, but not of all as one."""
        return tuple(self._optimizers)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or a pickle."""
        return {**super().__getstate__(), "_optimizers": self._optimizers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state and share it with the optimizers."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Give every optimizer the groups and the state of the combination, which loading a state replaces."""
        for index, optimizer in enumerate(self._optimizers):
            groups = [group for group in self.param_groups if group[_INDEX] == index]
            optimizer.__setstate__({"state": self.state, "param_groups": groups})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the optimizer with the index given in the group as "optimizer_index".

        Raises:
            ValueError: If the group has no such index, or no optimizer has it.
        """
        if _INDEX not in param_group:
            raise ValueError(
                f"a group for {type(self).__name__} has no {_INDEX!r}; add the index of its optimizer, counted from 0"
            )
        if not hasattr(self, "_optimizers"):  # during construction
            super().add_param_group(param_group)
            return
        index, count = param_group[_INDEX], len(self._optimizers)
        if index not in range(count):
            raise ValueError(f"{_INDEX}={index!r} is out of range for {count} optimizers; choose 0 to {count - 1}")
        owner = self._optimizers[index]
        owner.add_param_group({name: value for name, value in param_group.items() if name != _INDEX})
        super().add_param_group({**owner.param_groups.pop(), _INDEX: index})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters and return the loss if a `closure` computes it."""
        loss = loss_of(closure)
        for optimizer in self._optimizers:
            optimizer.step()
        return loss
