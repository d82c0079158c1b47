"""Learning rates of the optimizer's groups, by a function of the step or by a scheduler of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.config import TrainConfig
from trainer.task import Schedule


class Rates:
    """Sets the learning rate of each step.

    Args:
        schedule: schedule(tick) -> rate, which a parameter group with an `lr_scale` multiplies; or a torch LRScheduler.
        optimizer: Gets the rates.
    """

    def __init__(self, schedule: Schedule | LRScheduler, optimizer: Optimizer) -> None:
        self._schedule = schedule
        self._optimizer = optimizer
        self.of_groups: list[float] = []
        """Rates of the parameter groups in the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        scheduler = self._schedule.state_dict() if isinstance(self._schedule, LRScheduler) else None
        return {"scheduler": scheduler, "of_groups": self.of_groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the state of the optimizer is restored already."""
        self.of_groups = state["of_groups"]
        if isinstance(self._schedule, LRScheduler) and state["scheduler"] is not None:
            self._schedule.load_state_dict(state["scheduler"])

    def at(self, tick: int) -> float:
        """Return the learning rate of a tick, of the first group if torch has set it.

        Raises:
            ValueError: If it is not a finite number of at least 0.
        """
        if isinstance(self._schedule, LRScheduler):
            rate, name = float(self._optimizer.param_groups[0]["lr"]), type(self._schedule).__name__
        else:
            rate, name = float(self._schedule(tick)), "schedule"
        if not 0 <= rate < math.inf:
            raise ValueError(f"{name}({tick}) is {rate!r}: expected a finite learning rate, 0 or more")
        return rate

    def set(self, rate: float) -> None:
        """Give the rate to all groups, each multiplied by its `lr_scale`, unless torch has set them."""
        if not isinstance(self._schedule, LRScheduler):
            for group in self._optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
        self.of_groups = [float(group["lr"]) for group in self._optimizer.param_groups]

    def advance(self) -> None:
        """Let torch's scheduler set the rates of the next step."""
        if isinstance(self._schedule, LRScheduler):
            self._schedule.step()


def check_schedule(schedule: object, optimizer: Optimizer, config: TrainConfig) -> None:
    """Check that a schedule gives the learning rates of a run.

    Raises:
        TypeError: If it is neither a function nor a scheduler of torch that needs no losses.
        ValueError: If it is a scheduler of another optimizer, or the schedule is to follow the clock.
    """
    kind = type(schedule).__name__
    if not isinstance(schedule, LRScheduler | Callable) or isinstance(schedule, type) or kind == "ReduceLROnPlateau":
        shown = repr(schedule) if isinstance(schedule, int | float) else f"a {kind}"
        raise TypeError(
            f"schedule is {shown}: expected a function of the step, such as lambda step: 1e-3, or a torch LRScheduler "
            "that needs no losses"
        )
    if not isinstance(schedule, LRScheduler):
        return
    if schedule.optimizer is not optimizer:
        raise ValueError(f"schedule is a {kind} of another optimizer: expected one of this trainer's optimizer")
    if config.clock == "time":
        raise ValueError(f'schedule is a {kind}, which counts steps: expected a function with clock="time"')
