"""Learning rates, weight decay and momentum of the optimizer's groups, by functions of the step or of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.config import TrainConfig
from trainer.task import Schedule


class Rates:
    """Sets the learning rate of each step, and its weight decay and momentum if they are scheduled.

    Args:
        schedule: schedule(tick) -> rate, which a parameter group with an `lr_scale` multiplies; or a torch LRScheduler.
        optimizer: Gets the rates.
        factor_schedules: By the name of a setting, its factor(tick), which multiplies each group's own value.
    """

    def __init__(
        self,
        schedule: Schedule | LRScheduler,
        optimizer: Optimizer,
        factor_schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        self._schedule = schedule
        self._optimizer = optimizer
        self._factor_schedules = factor_schedules or {}
        self.factors: dict[str, float] = {}
        """Factors of the scheduled settings in the last step, by name."""
        self.of_groups: list[float] = []
        """Rates of the parameter groups in the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        scheduler = self._schedule.state_dict() if isinstance(self._schedule, LRScheduler) else None
        return {"scheduler": scheduler, "of_groups": self.of_groups, "factors": self.factors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the state of the optimizer is restored already."""
        self.of_groups = state["of_groups"]
        factors = state.get("factors", {})
        self.factors = {name: factors[name] for name in self._factor_schedules if name in factors}
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
        for setting, factor_schedule in self._factor_schedules.items():
            factor, name = _number(factor_schedule(tick), f"{setting}_schedule", tick), f"{setting}_schedule({tick})"
            if not 0 <= factor < math.inf:
                raise ValueError(
                    f"{name} is {factor!r}: expected a finite factor of the {_in_words(setting)}, 0 or more"
                )
            largest = max(group.get(setting, 0.0) for group in self._optimizer.param_groups)
            if setting == "momentum" and largest * factor >= 1:
                raise ValueError(
                    f"{name} is {factor!r}, which makes a momentum of {largest!r} {largest * factor:g}: expected less "
                    "than 1"
                )
            self.factors[setting] = factor
        return rate

    @contextmanager
    def applied(self, rate: float) -> Iterator[None]:
        """Give the rate to all groups, each multiplied by its `lr_scale`, unless torch has set them.

        Other settings are scaled within the block only, so that checkpoints and descriptions have the groups' own.
        """
        groups = self._optimizer.param_groups
        if not isinstance(self._schedule, LRScheduler):
            for group in groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
        self.of_groups = [float(group["lr"]) for group in groups]
        own = [(group, name, group[name]) for group in groups for name in self.factors if name in group]
        try:
            for group, name, value in own:
                group[name] = value * self.factors[name]
            yield
        finally:
            for group, name, value in own:
                group[name] = value

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


def _in_words(setting: str) -> str:
    return setting.replace("_", " ")


def check_schedules(
    schedule: object, factor_schedules: Mapping[str, object], optimizer: Optimizer, config: TrainConfig
) -> None:
    """Check that the schedules give the learning rates of a run, and factors of other settings by their names.

    Raises:
        TypeError: If one is not a function, and that of the rates is no scheduler of torch that needs no losses either.
        ValueError: If it is a scheduler of another optimizer, or the schedule is to follow the clock, or the optimizer
            has no setting of that name above 0.
    """
    for setting, factor in factor_schedules.items():
        if not callable(factor) or isinstance(factor, type):
            raise TypeError(
                f"{setting}_schedule is {factor!r}: expected a function of the step that returns a factor, such as "
                "lambda step: 1 - step / 1000"
            )
        if not any(group.get(setting) for group in optimizer.param_groups):
            raise ValueError(
                f"{setting}_schedule is given, but no parameter group of the optimizer has a {setting} above 0: "
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
