"""Learning-rate schedules: pure functions of the step."""

import math

Number = int | float


def _check(step: Number, max_lr: Number, min_lr: Number, **boundaries: Number) -> None:
    """Check that the step is not negative, and that rates and boundaries are in ascending order; NaN is neither."""
    if not step >= 0:
        raise ValueError(f"step={step!r} is out of range; choose a number of at least 0, the first step")
    if not 0 <= min_lr <= max_lr < math.inf:
        raise ValueError(f"min_lr={min_lr!r} and max_lr={max_lr!r} are out of order; choose 0 <= min_lr <= max_lr")
    names, steps = list(boundaries), list(boundaries.values())
    if not all(earlier <= later for earlier, later in zip([0, *steps], steps, strict=False)):
        given = ", ".join(f"{name}={step!r}" for name, step in boundaries.items())
        raise ValueError(f"{given} are out of order; choose 0 <= {' <= '.join(names)}")


def cosine_schedule(
    step: Number, *, max_lr: Number, min_lr: Number, warmup_steps: Number, decay_steps: Number
) -> float:
    """Return the learning rate at `step`: linear warm-up, half a cosine down, then the minimum.

    step < warmup_steps:   max_lr · step / warmup_steps
    step < decay_steps:    min_lr + (max_lr - min_lr) · (1 + cos(pi · x)) / 2,
                           with x = (step - warmup_steps) / (decay_steps - warmup_steps)
    afterwards:            min_lr
    (Loshchilov and Hutter 2017 without restarts; Touvron et al. 2023.) Plainly: `nnscratch.reference.cosine_schedule`.

    Args:
        step: Number of updates already made, 0 at the first; fractions are allowed.
        max_lr: Learning rate at the end of the warm-up.
        min_lr: Learning rate from `decay_steps` on.
        warmup_steps: Step at which the warm-up ends.
        decay_steps: Step at which the minimum is reached, counted from 0.

    Raises:
        ValueError: If the step is negative, or the rates or the boundaries are out of order.
    """
    _check(step, max_lr, min_lr, warmup_steps=warmup_steps, decay_steps=decay_steps)
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= decay_steps:
        return min_lr
    fraction = (step - warmup_steps) / (decay_steps - warmup_steps)
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * fraction)) / 2


def trapezoid_schedule(
    step: Number, *, max_lr: Number, min_lr: Number, warmup_steps: Number, decay_start: Number, decay_steps: Number
) -> float:
    """Return the learning rate at `step`: linear warm-up, plateau, linear decay, then the minimum.

    step < warmup_steps:   max_lr · step / warmup_steps
    step < decay_start:    max_lr
    step < decay_steps:    max_lr + (min_lr - max_lr) · (step - decay_start) / (decay_steps - decay_start)
    afterwards:            min_lr
    (Hägele et al. 2024; also called warmup-stable-decay.)

    Args:
        step: Number of updates already made, 0 at the first; fractions are allowed.
        max_lr: Learning rate of the plateau.
        min_lr: Learning rate from `decay_steps` on.
        warmup_steps: Step at which the warm-up ends.
        decay_start: Step at which the decay begins, counted from 0.
        decay_steps: Step at which the minimum is reached, counted from 0.

    Raises:
        ValueError: If the step is negative, or the rates or the boundaries are out of order.
    """
    _check(step, max_lr, min_lr, warmup_steps=warmup_steps, decay_start=decay_start, decay_steps=decay_steps)
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= decay_steps:
        return min_lr
    if step < decay_start:
        return max_lr
    return max_lr + (min_lr - max_lr) * (step - decay_start) / (decay_steps - decay_start)
