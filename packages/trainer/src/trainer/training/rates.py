"""Learning rates and weight decay of the optimizer's groups, by functions of the step or a scheduler of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.config import TrainConfig
from trainer.task import Schedule


class Rates:
    """Sets the learning rate and the weight decay of each step.

    Args:
        schedule: schedule(tick) -> rate, which a parameter group with an `lr_scale` multiplies; or a torch LRScheduler.
        optimizer: Gets the rates.
        weight_decay: weight_decay(tick) -> factor of each group's own weight decay; None leaves that as it is.
    """

    def __init__(
        self, schedule: Schedule | LRScheduler, optimizer: Optimizer, weight_decay: Schedule | None = None
    ) -> None:
        self._schedule = schedule
        self._optimizer = optimizer
        self._weight_decay = weight_decay
        self.decay_factor: float | None = None
        """Factor of the weight decay in the last step; None if it is not scheduled."""
        self.of_groups: list[float] = []
        """Rates of the parameter groups in the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        scheduler = self._schedule.state_dict() if isinstance(self._schedule, LRScheduler) else None
        return {"scheduler": scheduler, "of_groups": self.of_groups, "decay_factor": self.decay_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the state of the optimizer is restored already."""
        self.of_groups = state["of_groups"]
        self.decay_factor = None if self._weight_decay is None else state.get("decay_factor")
        if isinstance(self._schedule, LRScheduler) and state["scheduler"] is not None:
            self._schedule.load_state_dict(state["scheduler"])

    def at(self, tick: int) -> float:
        """Return the learning rate of a tick, of the first group if torch has set it.

        Raises:
            TypeError: If it is no number.
            ValueError: If it is not a finite number of at least 0.
        """
        if isinstance(self._schedule, LRScheduler):
            rate, name = float(self._optimizer.param_groups[0]["lr"]), type(self._schedule).__name__
        else:
            rate, name = _number(self._schedule(tick), "schedule", tick), "schedule"
        if not 0 <= rate < math.inf:
            raise ValueError(f"{name}({tick}) is {rate!r}: expected a finite learning rate, 0 or more")
        if self._weight_decay is not None:
            factor = _number(self._weight_decay(tick), "weight_decay_schedule", tick)
            if not 0 <= factor < math.inf:
                raise ValueError(
                    f"weight_decay_schedule({tick}) is {factor!r}: expected a finite factor of the weight decay, 0 or "
                    "more"
                )
            self.decay_factor = factor
        return rate

    @contextmanager
    def applied(self, rate: float) -> Iterator[None]:
        """Give the rate to all groups, each multiplied by its `lr_scale`, unless torch has set them.

        The weight decay is scaled within the block only, so that checkpoints and descriptions have the groups' own.
        """
        groups = self._optimizer.param_groups
        if not isinstance(self._schedule, LRScheduler):
            for group in groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
        self.of_groups = [float(group["lr"]) for group in groups]
        own = [group.get("weight_decay") for group in groups]
        try:
            if self.decay_factor is not None:
                for group, decay in zip(groups, own, strict=True):
                    if decay is not None:
                        group["weight_decay"] = decay * self.decay_factor
            yield
        finally:
            if self.decay_factor is not None:
                for group, decay in zip(groups, own, strict=True):
                    if decay is not None:
                        group["weight_decay"] = decay

    def advance(self) -> None:
        """Let torch's scheduler set the rates of the next step."""
        if isinstance(self._schedule, LRScheduler):
            self._schedule.step()


def _number(value: object, name: str, tick: int) -> float:
    """Return what a schedule has returned as a number.

    Raises:
        TypeError: If it is none.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name}({tick}) is {value!r}: expected a number, which the function must return") from None


def check_schedules(schedule: object, weight_decay: object, optimizer: Optimizer, config: TrainConfig) -> None:
    """Check that the schedules give the learning rates of a run, and factors of its weight decay if not None.

    Raises:
        TypeError: If one is not a function, and that of the rates is no scheduler of torch that needs no losses either.
        ValueError: If it is a scheduler of another optimizer, or the schedule is to follow the clock, or the optimizer
            has no weight decay.
    """
    if weight_decay is not None:
        if not callable(weight_decay) or isinstance(weight_decay, type):
            raise TypeError(
                f"weight_decay_schedule is {weight_decay!r}: expected a function of the step that returns a factor, "
                "such as lambda step: 1 - step / 1000"
            )
        if not any(group.get("weight_decay") for group in optimizer.param_groups):
            raise ValueError(
                "weight_decay_schedule is given, but no parameter group of the optimizer has a weight_decay above 0: "
                "expected one to multiply"
            )
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
