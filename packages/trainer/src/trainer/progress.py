"""What a run knows about itself besides weights: counts, seconds, losses so far."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from trainer.config import TrainConfig


@dataclass
class Progress:
    """The part of a run's state that is plain numbers; every checkpoint carries it."""

    step: int = 0
    """Optimizer steps made."""
    tick: int = 0
    """Where the schedule is: `step`, or with clock="time" the ticks of the clock."""
    seconds_total: float = 0.0
    seconds_training: float = 0.0
    training_began: float | None = None
    """`seconds_total` at the first step: the ticks are counted from there."""
    reported_step: int = 0
    """The last step with a training record; the next record averages what came since."""
    reported_seconds: float = 0.0
    """`seconds_training` at that record."""
    loss_sum: float = 0.0
    """Sum of the losses since that record."""
    valid_step: int | None = None
    """The step of the last evaluation, whose results follow."""
    valid_loss: float | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    first_valid_loss: float | None = None
    best_valid_loss: float | None = None
    diverged_at_step: int | None = None
    divergence: str | None = None
    reserve_report: float = 0.0
    """Seconds that the slowest evaluation took, with sample and picture."""
    reserve_save: float = 0.0
    """Seconds that the slowest checkpoint took."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class RunClock:
    """The wall clock of a run over all its resumes, and the ticks that follow it."""

    def __init__(self, config: TrainConfig, progress: Progress, began: float, seconds_before: float) -> None:
        self._config = config
        self._progress = progress
        self._origin = began - seconds_before - progress.seconds_total
        self.last_step_seconds = 0.0

    def elapsed(self) -> float:
        """Seconds of the whole run until now."""
        return time.perf_counter() - self._origin

    def reserve(self) -> float:
        """Seconds that the end needs: one more step, the last evaluation and the last checkpoint, with some air."""
        # The first checkpoint has no optimizer state yet, so later ones may take three times as long.
        return 1.25 * self._progress.reserve_report + 3 * self._progress.reserve_save + self.last_step_seconds + 0.1

    def budget_is_spent(self) -> bool:
        """Whether only the time for an orderly end is left."""
        limit = self._config.time_limit_seconds
        return limit is not None and self.elapsed() + self.reserve() >= limit

    def tick(self) -> int:
        """Where the schedule is now, from 0 to `config.steps`; it never goes back."""
        config, progress = self._config, self._progress
        if config.clock == "steps" or config.time_limit_seconds is None:
            return progress.step
        if self.budget_is_spent():
            return config.steps
        began = self.elapsed() if progress.training_began is None else progress.training_began
        share = (self.elapsed() - began) / (config.time_limit_seconds - self.reserve() - began)
        return max(progress.tick, min(config.steps - 1, math.floor(config.steps * share)))


class LossMeter:
    """Sums losses and finds the first that is not finite, on the device, without the host waiting for it."""

    def __init__(self, device: torch.device, loss_sum: float = 0.0) -> None:
        # MPS has no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sum = torch.tensor(loss_sum, dtype=dtype, device=device)
        self._first_bad = torch.tensor(-1, device=device)

    def add(self, loss: torch.Tensor, grad_norm: torch.Tensor, step: int) -> None:
        """Take the loss and gradient norm of one step."""
        self._sum += loss
        is_first = (self._first_bad < 0) & ~torch.isfinite(loss + grad_norm)
        self._first_bad.masked_fill_(is_first, step)

    def first_bad_step(self) -> int | None:
        """Wait for the device and return the first step that was not finite, or None."""
        step = int(self._first_bad.item())
        return None if step < 0 else step

    def sum(self) -> float:
        """Wait for the device and return the sum."""
        return float(self._sum.item())

    def reset_sum(self) -> None:
        """Begin a new sum."""
        self._sum.zero_()


def crosses(previous: int, now: int, interval: int) -> bool:
    """Return whether a multiple of the interval lies in (previous, now]."""
    return previous // interval < now // interval
