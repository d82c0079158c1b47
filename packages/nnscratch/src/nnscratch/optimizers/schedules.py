"""Learning-rate schedules: pure functions from a step to the learning rate at that step."""

import math

Number = int | float


def _check(max_lr: Number, min_lr: Number, **boundaries: Number) -> None:
    """Refuse rates that are out of order and boundaries that go back."""
    if not 0 <= min_lr <= max_lr < math.inf:
        raise ValueError(f"min_lr={min_lr!r} and max_lr={max_lr!r} are out of order; choose 0 <= min_lr <= max_lr")
    names, steps = list(boundaries), list(boundaries.values())
    if any(later < earlier for earlier, later in zip([0, *steps], steps, strict=False)):
        came = ", ".join(f"{name}={step!r}" for name, step in boundaries.items())
        raise ValueError(f"{came} are out of order; choose 0 <= {' <= '.join(names)}")


def cosine_schedule(
    step: Number, *, max_lr: Number, min_lr: Number, warmup_steps: Number, decay_steps: Number
) -> float:
    """Return the learning rate at `step`: a linear warm-up, half a cosine down, then the minimum.

    step < warmup_steps:   max_lr · step / warmup_steps
    step < decay_steps:    min_lr + (max_lr - min_lr) · (1 + cos(pi · x)) / 2,
                           with x = (step - warmup_steps) / (decay_steps - warmup_steps)
    afterwards:            min_lr
    (Loshchilov and Hutter 2017 without restarts; Touvron et al. 2023.)

    Args:
        step: number of updates already made, 0 at the first.
        max_lr: the rate at the end of the warm-up.
        min_lr: the rate from `decay_steps` on.
        warmup_steps: where the warm-up ends.
        decay_steps: where the minimum is reached, counted from step 0.

    Raises:
        ValueError: if the rates or the boundaries are out of order.
    """
    _check(max_lr, min_lr, warmup_steps=warmup_steps, decay_steps=decay_steps)
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= decay_steps:
        return min_lr
    fraction = (step - warmup_steps) / (decay_steps - warmup_steps)
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * fraction)) / 2


def trapezoid_schedule(
    step: Number, *, max_lr: Number, min_lr: Number, warmup_steps: Number, decay_start: Number, decay_steps: Number
) -> float:
    """Return the learning rate at `step`: linear warm-up, a plateau, a linear decay, then the minimum.

    step < warmup_steps:   max_lr · step / warmup_steps
    step < decay_start:    max_lr
    step < decay_steps:    max_lr + (min_lr - max_lr) · (step - decay_start) / (decay_steps - decay_start)
    afterwards:            min_lr
    (Hägele et al. 2024; also called warm-up, stable, decay.)

    Args:
        step: number of updates already made, 0 at the first.
        max_lr: the rate of the plateau.
        min_lr: the rate from `decay_steps` on.
        warmup_steps: where the warm-up ends.
        decay_start: where the decay begins, counted from step 0.
        decay_steps: where the minimum is reached, counted from step 0.

    Raises:
        ValueError: if the rates or the boundaries are out of order.
    """
    _check(max_lr, min_lr, warmup_steps=warmup_steps, decay_start=decay_start, decay_steps=decay_steps)
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= decay_steps:
        return min_lr
    if step < decay_start:
        return max_lr
    return max_lr + (min_lr - max_lr) * (step - decay_start) / (decay_steps - decay_start)
