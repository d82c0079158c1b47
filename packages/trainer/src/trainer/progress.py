"""What a run knows about itself besides weights: counts, seconds, losses so far."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from trainer.config import TrainConfig
from trainer.distributed import Processes


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
    micro_batch_size: int | None = None
    """Windows in a forward pass since there was no memory for more; None if there always was."""
    loss_sum: float = 0.0
    """Sum of the losses since that record."""
    loss_count: int = 0
    """How many losses are in that sum; those of skipped steps are not."""
    loss_max: float | None = None
    """The largest of them."""
    usual_loss: float | None = None
    """Moving average of the recorded losses, against which spikes are found."""
    spikes: int = 0
    """Records whose largest loss was a spike."""
    skipped_steps: int = 0
    """Steps that made no update, because their loss or gradient was not finite."""
    skipped_in_a_row: int = 0
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

    def __init__(
        self,
        config: TrainConfig,
        progress: Progress,
        began: float,
        seconds_before: float,
        processes: Processes | None = None,
    ) -> None:
        self._config = config
        self._progress = progress
        self._origin = began - seconds_before - progress.seconds_total
        self.last_step_seconds = 0.0
        self._processes = processes or Processes()
        self._shared: tuple[float, ...] = (0.0, 0.0, 0.0)
        self.share()

    def share(self) -> None:
        """Let all processes decide by the writer's clock as it is now; to be called by all, after what takes time."""
        if self._processes.are_several and self._config.follows_time:
            own = (self.elapsed(), self.reserve(), self._reserve_of_save())
            self._shared = self._processes.from_writer_numbers(own)

    def now(self) -> float:
        """Seconds of the whole run for decisions: until now, or with several processes until the last `share`."""
        return self._decisive()[0]

    def elapsed(self) -> float:
        """Seconds of the whole run until now."""
        return time.perf_counter() - self._origin

    def reserve(self) -> float:
        """Seconds that the end needs: one more step, the last evaluation and the last checkpoint, with some air."""
        return 1.25 * self._progress.reserve_report + self._reserve_of_save() + self.last_step_seconds + 0.1

    def budget_is_spent(self) -> bool:
        """Whether only the time for an orderly end is left."""
        limit = self._config.time_limit_seconds
        now, reserve, _ = self._decisive()
        return limit is not None and now + reserve >= limit

    def has_time_for_a_save(self) -> bool:
        """Whether a save that begins now is completed before only the time for an orderly end is left."""
        limit = self._config.time_limit_seconds
        return limit is None or sum(self._decisive()) < limit

    def tick(self) -> int:
        """Where the schedule is now, from 0 to `config.steps`; it never goes back."""
        config, progress = self._config, self._progress
        if config.clock == "steps" or config.time_limit_seconds is None:
            return progress.step
        if self.budget_is_spent():
            return config.steps
        now, reserve, _ = self._decisive()
        began = now if progress.training_began is None else progress.training_began
        share = (now - began) / (config.time_limit_seconds - reserve - began)
        return max(progress.tick, min(config.steps - 1, math.floor(config.steps * share)))

    def _reserve_of_save(self) -> float:
        # The first checkpoint has no optimizer state yet, so later ones may take three times as long.
        return 3 * self._progress.reserve_save

    def _decisive(self) -> tuple[float, ...]:
        """The seconds until now, the reserve and the reserve of a save, on which all processes decide alike."""
        if self._processes.are_several:
            return self._shared
        return self.elapsed(), self.reserve(), self._reserve_of_save()


def crosses(previous: int, now: int, interval: int) -> bool:
    """Return whether a multiple of the interval lies in (previous, now]."""
    return previous // interval < now // interval
