"""Ready-made schedules: each function returns one, schedule(step) -> learning rate, with steps from 0.

All begin with a linear warm-up, in which step s has (s + 1) / warmup_steps of the largest rate. A step below 0 is a
ValueError.
"""

from __future__ import annotations

import math

from trainer.task import Schedule


def constant(max_rate: float, *, warmup_steps: int = 0) -> Schedule:
    """Return a warm-up, then a constant rate.

    Args:
        max_rate: Rate after the warm-up.
        warmup_steps: Steps of the warm-up.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(max_rate, 0.0, warmup_steps, warmup_steps + 1)

    def schedule(step: int) -> float:
        _check_step(step)
        return max_rate * _warmup(step, warmup_steps)

    return schedule


def linear(max_rate: float, *, steps: int, warmup_steps: int = 0, min_rate: float = 0.0) -> Schedule:
    """Return a warm-up, then a straight line down to `min_rate` at `steps` (Defazio et al. 2023).

    Args:
        max_rate: Rate after the warm-up.
        steps: Steps of the schedule; the rate stays as it is afterwards.
        warmup_steps: Steps of the warm-up.
        min_rate: Rate at the end.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(max_rate, min_rate, warmup_steps, steps)

    def schedule(step: int) -> float:
        _check_step(step)
        if step < warmup_steps:
            return max_rate * _warmup(step, warmup_steps)
        return min_rate + (max_rate - min_rate) * (1 - _done(step, warmup_steps, steps))

    return schedule


def cosine(max_rate: float, *, steps: int, warmup_steps: int = 0, min_rate: float = 0.0) -> Schedule:
    """Return a warm-up, then half a cosine down to `min_rate` at `steps` (Loshchilov and Hutter 2017).

    Args:
        max_rate: Rate after the warm-up.
        steps: Steps of the schedule; the rate stays as it is afterwards.
        warmup_steps: Steps of the warm-up.
        min_rate: Rate at the end.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(max_rate, min_rate, warmup_steps, steps)

    def schedule(step: int) -> float:
        _check_step(step)
        if step < warmup_steps:
            return max_rate * _warmup(step, warmup_steps)
        share = (1 + math.cos(math.pi * _done(step, warmup_steps, steps))) / 2
        return min_rate + (max_rate - min_rate) * share

    return schedule


def warmup_stable_decay(
    max_rate: float, *, steps: int, warmup_steps: int = 0, decay_steps: int | None = None, min_rate: float = 0.0
) -> Schedule:
    """Return a warm-up, a plateau, and a decay to `min_rate` at `steps` (Hu et al. 2024).

    The decay is 1 minus the square root of the share done, the best of those compared by Hägele et al. (2024).

    Args:
        max_rate: Rate after the warm-up.
        steps: Steps of the schedule; the rate stays as it is afterwards.
        warmup_steps: Steps of the warm-up.
        decay_steps: Steps of the decay; None means a fifth of all.
        min_rate: Rate at the end.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(max_rate, min_rate, warmup_steps, steps)
    decay_steps = max(1, steps // 5) if decay_steps is None else decay_steps
    if (
        isinstance(decay_steps, bool)
        or not isinstance(decay_steps, int)
        or not 1 <= decay_steps <= steps - warmup_steps
    ):
        raise ValueError(
            f"decay_steps is {decay_steps!r}: expected a whole number from 1 to the {steps - warmup_steps} steps after "
            "the warm-up"
        )
    begin = steps - decay_steps

    def schedule(step: int) -> float:
        _check_step(step)
        if step < begin:
            return max_rate * _warmup(step, warmup_steps)
        return min_rate + (max_rate - min_rate) * (1 - math.sqrt(_done(step, begin, steps)))

    return schedule


def _warmup(step: int, warmup_steps: int) -> float:
    """Return the share of the largest rate in a step of the warm-up or after it."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _done(step: int, begin: int, end: int) -> float:
    """Return the share of the steps from `begin` to `end` that are done."""
    return min(1.0, (step - begin) / (end - begin))


def _check_step(step: int) -> None:
    if not step >= 0:  # NaN, too
        raise ValueError(f"step is {step!r}: expected a number of at least 0, the first step")


def _check(max_rate: float, min_rate: float, warmup_steps: int, steps: int) -> None:
    for name, rate, most in (("max_rate", max_rate, math.inf), ("min_rate", min_rate, max_rate)):
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not is_number or not 0 <= rate <= most or rate == math.inf:
            limit = "" if most == math.inf else f", at most max_rate, {max_rate!r}"
            raise ValueError(f"{name} is {rate!r}: expected a finite number of at least 0{limit}")
    for name, number, least in (("warmup_steps", warmup_steps, 0), ("steps", steps, None)):
        least = warmup_steps + 1 if least is None else least
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            reason = "" if name == "warmup_steps" else ", more than warmup_steps"
            raise ValueError(f"{name} is {number!r}: expected a whole number, {least} or more{reason}")
