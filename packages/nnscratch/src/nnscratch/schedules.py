"""Learning-rate schedules: pure functions from a step to a rate."""

import math


def cosine_schedule(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, decay_steps: int) -> float:
    """Linear warm-up, then half a cosine down, then constant (the assignment's section 4.4, after LLaMA).

    max_lr * step / warmup_steps                                                  for step < warmup_steps
    min_lr + (1 + cos(pi * (step - warmup) / (decay - warmup))) / 2 * (max_lr - min_lr)   up to decay_steps
    min_lr                                                                        afterwards

    Args:
        step: counted from 0, where the rate is 0 if there is a warm-up.
        max_lr: the rate at `warmup_steps`.
        min_lr: the rate from `decay_steps` on.
        warmup_steps: steps of the rise; 0 starts at `max_lr`.
        decay_steps: the step at which `min_lr` is reached, counted from 0.

    Raises:
        ValueError: a negative step or rate, or steps out of order.
    """
    _check(step, max_lr, min_lr, (("warmup_steps", warmup_steps), ("decay_steps", decay_steps)))
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= decay_steps:
        return min_lr
    progress = (step - warmup_steps) / (decay_steps - warmup_steps)
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (max_lr - min_lr)


def trapezoid_schedule(
    step: int, *, max_lr: float, min_lr: float, warmup_steps: int, decay_start: int, decay_steps: int
) -> float:
    """Linear warm-up, a constant stretch, then a linear decay (WSD: Hu et al. 2024, arXiv:2404.06395).

    Args:
        step: counted from 0.
        max_lr: the rate from `warmup_steps` to `decay_start`.
        min_lr: the rate from `decay_steps` on.
        warmup_steps: steps of the rise.
        decay_start: the last step at `max_lr`.
        decay_steps: the step at which `min_lr` is reached, counted from 0.

    Raises:
        ValueError: a negative step or rate, or steps out of order.
    """
    _check(
        step,
        max_lr,
        min_lr,
        (("warmup_steps", warmup_steps), ("decay_start", decay_start), ("decay_steps", decay_steps)),
    )
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step <= decay_start and step < decay_steps:
        return max_lr
    if step >= decay_steps:
        return min_lr
    return max_lr - (max_lr - min_lr) * (step - decay_start) / (decay_steps - decay_start)


def _check(step: int, max_lr: float, min_lr: float, marks: tuple[tuple[str, int], ...]) -> None:
    if step < 0:
        raise ValueError(f"step is {step}: expected 0 or more")
    if not 0 <= min_lr <= max_lr:
        raise ValueError(f"min_lr is {min_lr} and max_lr is {max_lr}: expected 0 <= min_lr <= max_lr")
    previous, bound = "0", 0
    for name, mark in marks:
        if mark < bound:
            raise ValueError(f"{name} is {mark}: expected at least {previous}, which is {bound}")
        previous, bound = name, mark
