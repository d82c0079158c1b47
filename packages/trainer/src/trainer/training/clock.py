"""Wall clock of a run, the ticks of its schedule, and the time that it reserves for an orderly end."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from trainer.config import TrainConfig
from trainer.distributed import Processes

Measured = Literal["evaluation", "export", "save"]

_SPARE = 1.5
_STEPS_AHEAD = 2
_LEAST_SECONDS = 0.1  # the summary, and closing the files
_MOST_TIMES = 100
_NEAR = 0.02  # of the limit: more than the queue of a device holds


class RunClock:
    """Wall clock of a run over all its sessions.

    With a time limit, the clock reserves 1.5 times the slowest evaluation, export and save seen so far, and two steps.
    A measurement above twice the median of its kind counts as twice the median: one evaluation during which the
    process was stopped must not end the run early.

    Args:
        config: Settings of the run.
        processes: Processes of the run, which all decide by the clock of rank 0; None for this one alone.
        began: Value of `now` when the session began; None for this moment.
        seconds_before: Seconds before `began` that count as well.
        earlier: Seconds of earlier sessions, if they are more than the checkpoint knows.
        now: Clock in seconds; None for `time.perf_counter`.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes | None = None,
        *,
        began: float | None = None,
        seconds_before: float = 0.0,
        earlier: float = 0.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._config = config
        self._processes = processes or Processes()
        self._now = now or time.perf_counter
        self._origin = (self._now() if began is None else began) - seconds_before
        self._earlier = earlier
        self._times: dict[Measured, list[float]] = {"evaluation": [], "export": [], "save": []}
        self._reserved: dict[Measured, float] = dict.fromkeys(self._times, 0.0)
        self._pass_seconds: deque[float] = deque(maxlen=3)
        self._queued_seconds, self._queued_passes = 0.0, 0
        self._training_began: float | None = None
        self._step = 0
        self.tick = 0
        """Position of the schedule, from 0 to `config.steps`; it never goes back."""
        self._shared: tuple[float, ...] = (0.0,) * 4
        self.share()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {
            "seconds_total": self.elapsed(),
            "training_began": self._training_began,
            "step": self._step,
            "tick": self.tick,
            "pass_seconds": list(self._pass_seconds),
            "times": {what: list(times) for what, times in self._times.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a run; all processes must call this together."""
        self._earlier = max(self._earlier, state["seconds_total"])
        self._training_began = state["training_began"]
        self._step, self.tick = state["step"], state["tick"]
        self._pass_seconds.extend(state["pass_seconds"])
        self._times = state["times"]
        self._reserved = {what: _reserve_for(times) for what, times in self._times.items()}
        self.share()

    def elapsed(self) -> float:
        """Return the seconds of the run, by the clock of this process."""
        return self._now() - self._origin + self._earlier

    def now(self) -> float:
        """Return the seconds of the run for decisions; with several processes, those of rank 0 at the last `share`."""
        return self._decisive()[0]

    def share(self) -> None:
        """Let all processes decide by the present clock of rank 0; all must call this, after what takes time."""
        if self._processes.are_several and self._config.follows_time:
            self._shared = self._processes.from_writer_numbers(self._own())

    def begin_training(self, *, again: bool = False) -> None:
        """Count ticks of the schedule from here on, unless an earlier step began; or `again`, after compilation."""
        if again or self._training_began is None:
            self._training_began = self.now()

    def note_step(self, seconds: float, passes: int, *, is_computed: bool = True) -> None:
        """Count a step, and record how long it took.

        Args:
            seconds: Wall time, without compilation.
            passes: Its grad_accumulation_steps; 0 for the time that was spent waiting for the steps before.
            is_computed: Whether the device has computed all steps so far; False if it may only have queued them.
        """
        self._step += passes > 0
        self._queued_seconds += seconds
        self._queued_passes += passes
        if is_computed and self._queued_passes:
            self._pass_seconds.append(self._queued_seconds / self._queued_passes)
            self._queued_seconds, self._queued_passes = 0.0, 0

    def note(self, what: Measured, seconds: float) -> None:
        """Record how long a part of the end would take, or took."""
        self._times[what] = [*self._times[what], seconds][-_MOST_TIMES:]
        self._reserved[what] = _reserve_for(self._times[what])

    def reserve(self) -> float:
        """Return the seconds that an orderly end needs."""
        return sum(self._reserved.values()) + _STEPS_AHEAD * self._step_seconds() + _LEAST_SECONDS

    def budget_is_spent(self) -> bool:
        """Return whether only the time for an orderly end is left."""
        return self._spare() <= 0

    def is_near_the_end(self) -> bool:
        """Return whether the end is so near that a device must have computed its queue before anything is decided."""
        _, reserve, *_ = self._decisive()
        return self._spare() <= reserve + _NEAR * (self._config.time_limit_seconds or 0.0)

    def has_time_for(self, *, evaluation: bool = False, save: bool = False) -> bool:
        """Return whether these can be completed now, and the end with its own be orderly all the same."""
        _, _, evaluating, saving = self._decisive()
        return evaluation * evaluating + save * saving < self._spare()

    def advance(self) -> int:
        """Move the schedule to the present, and return its tick."""
        self.tick = max(self.tick, self._present_tick())
        return self.tick

    def _present_tick(self) -> int:
        steps, limit = self._config.steps, self._config.time_limit_seconds
        if self._config.clock == "steps" or limit is None:
            return self._step
        if self.budget_is_spent():
            return steps
        now, reserve, *_ = self._decisive()
        began = now if self._training_began is None else self._training_began
        return min(steps - 1, math.floor(steps * (now - began) / (limit - reserve - began)))

    def _spare(self) -> float:
        """Return the seconds that are left besides those of an orderly end; infinite without a limit."""
        now, reserve, *_ = self._decisive()
        limit = self._config.time_limit_seconds
        return math.inf if limit is None else limit - now - reserve

    def _step_seconds(self) -> float:
        """Return the seconds of a step near the end: a median, since a step may have been stopped."""
        if not self._pass_seconds:
            return 0.0
        config = self._config
        passes = config.accumulations[-1] if config.clock == "time" else config.accumulation_at(self._step)
        return passes * statistics.median(self._pass_seconds)

    def _decisive(self) -> tuple[float, ...]:
        """Return the seconds until now, the reserve, and the shares of an evaluation and of a save in it."""
        return self._shared if self._processes.are_several else self._own()

    def _own(self) -> tuple[float, ...]:
        return self.elapsed(), self.reserve(), self._reserved["evaluation"], self._reserved["save"]


def _reserve_for(times: list[float]) -> float:
    """Return the seconds to reserve for what has taken these times."""
    return _SPARE * min(max(times), 2 * statistics.median(times)) if times else 0.0
