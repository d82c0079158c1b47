"""Wall clock of a run, the ticks of its schedule, and the time reserved for an orderly end."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from trainer.config import TrainConfig
from trainer.distributed import Processes

Measured = Literal["evaluation", "export", "save", "busy", "completion"]
"""Parts of an orderly end. "busy": time that a background save takes from an evaluation beside it, for copying and for
the thread's computing. "completion": what is left of the save when both have ended."""

_SAFETY_FACTOR = 1.25
_RESERVED_STEPS = 2
_CLOSING_SECONDS = 0.1  # the summary, and closing the files
_MAX_TIMES = 100
_NEAR_SHARE = 0.02  # share of the time limit; a device queues less work than this


class _Reading(NamedTuple):
    """Reading of the clock to decide by, in seconds; several processes share the reading of rank 0."""

    now: float = 0.0
    reserve: float = 0.0
    """For an orderly end."""
    evaluation: float = 0.0
    save: float = 0.0


class RunClock:
    """Wall clock of a run over all its sessions.

    The schedule counts ticks, from 0 to `config.steps`. A tick is an optimizer step, or with `clock="time"` an equal
    part of the time for training.

    An orderly end needs an evaluation, an export and a save. With a time limit, the clock reserves 1.25 times the
    slowest of each so far, and two steps. An evaluation and a save take the sum of their times. Once a background save
    has been measured, they count as parallel: as the save, or as the evaluation with the processor time of the save,
    whichever is longer. The completion of the save comes after both.

    A measurement above twice the median of its kind counts as twice the median. Otherwise one evaluation during which
    the process was stopped could end the run early.

    Args:
        config: Settings of the run.
        processes: Processes of the run, which all decide by the clock of rank 0; None for this one alone.
        began: Reading of the clock `now` when the session began; None for this moment.
        seconds_before: Seconds before `began` that count as well.
        earlier: Seconds of earlier sessions; a checkpoint that records more takes precedence.
        now: Function that reads a clock in seconds; None for `time.perf_counter`.
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
        self._times: dict[Measured, list[float]] = {what: [] for what in get_args(Measured)}
        self._reserved: dict[Measured, float] = dict.fromkeys(self._times, 0.0)
        self._pass_seconds: deque[float] = deque(maxlen=3)
        self._queued_seconds, self._queued_passes = 0.0, 0
        self._training_began: float | None = None
        self._step = 0
        self.tick = 0
        """Position in the schedule, from 0 to `config.steps`; it never decreases within a session."""
        self._shared = _Reading()
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
            "limits": [self._config.steps, self._config.time_limit_seconds],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of an earlier session; all processes must call this together."""
        self._earlier = max(self._earlier, state["seconds_total"])
        self._training_began = state["training_began"]
        self._step, self.tick = state["step"], state["tick"]
        self._pass_seconds.extend(state["pass_seconds"])
        self._times |= state["times"]  # earlier versions measured fewer
        self._reserved = {what: _reserve_for(times) for what, times in self._times.items()}
        self.share()
        if state["limits"] != [self._config.steps, self._config.time_limit_seconds]:
            self.tick = self._present_tick()  # with more time, the schedule goes back

    def elapsed(self) -> float:
        """Return the seconds of the run, by the clock of this process."""
        return self._now() - self._origin + self._earlier

    def now(self) -> float:
        """Return the seconds of the run to decide by; with several processes, those of rank 0 at the last `share`."""
        return self._reading().now

    def share(self) -> None:
        """Send the present clock of rank 0 to all processes, which decide by it until the next call.

        All processes must call this together, after everything that takes long.
        """
        if self._processes.are_several and self._config.depends_on_time:
            self._shared = _Reading(*self._processes.broadcast(self._own_reading()))

    def begin_training(self, *, again: bool = False) -> None:
        """Start the schedule now. Later calls have an effect only with `again`, which leaves out compilation."""
        if again or self._training_began is None:
            self._training_began = self.now()

    def note_step(self, seconds: float, passes: int, *, is_computed: bool = True) -> None:
        """Count a step, and record how long it took.

        Args:
            seconds: Wall time, without compilation.
            passes: Forward passes of the step; 0 counts no step, only time spent waiting for earlier steps.
            is_computed: Whether the device has computed all steps so far; False if some may still be queued.
        """
        self._step += passes > 0
        self._queued_seconds += seconds
        self._queued_passes += passes
        if is_computed and self._queued_passes:
            self._pass_seconds.append(self._queued_seconds / self._queued_passes)
            self._queued_seconds, self._queued_passes = 0.0, 0

    def note(self, what: Measured, seconds: float) -> None:
        """Record how long a part of an orderly end took, from which the reserve for it is computed."""
        self._times[what] = [*self._times[what], seconds][-_MAX_TIMES:]
        self._reserved[what] = _reserve_for(self._times[what])

    def reserve(self) -> float:
        """Return the seconds that an orderly end needs."""
        reserved = self._reserved
        both = reserved["evaluation"] + reserved["save"]
        if self._config.save_in_background and self._times["busy"]:
            both = max(reserved["evaluation"] + reserved["busy"], reserved["save"]) + reserved["completion"]
        return both + reserved["export"] + _RESERVED_STEPS * self._step_seconds() + _CLOSING_SECONDS

    def budget_is_spent(self) -> bool:
        """Return whether only the time for an orderly end is left."""
        return self._seconds_left() <= 0

    def is_near_the_end(self) -> bool:
        """Return whether the end is so near that the caller must wait for the device before it decides anything.

        Steps that the device has only queued still take time, which the clock does not know.
        """
        return self._seconds_left() <= self._reading().reserve + _NEAR_SHARE * (self._config.time_limit_seconds or 0.0)

    def has_time_for(self, *, evaluation: bool = False, save: bool = False) -> bool:
        """Return whether there is time for an evaluation, a save or both now, besides those reserved for the end."""
        reading = self._reading()
        return evaluation * reading.evaluation + save * reading.save < self._seconds_left()

    def advance(self) -> int:
        """Move the schedule to the present time or step, and return its tick."""
        self.tick = max(self.tick, self._present_tick())
        return self.tick

    def _present_tick(self) -> int:
        steps, limit = self._config.steps, self._config.time_limit_seconds
        if self._config.clock == "steps" or limit is None:
            return self._step
        if self.budget_is_spent():
            return steps
        reading = self._reading()
        began = reading.now if self._training_began is None else self._training_began
        return min(steps - 1, math.floor(steps * (reading.now - began) / (limit - reading.reserve - began)))

    def _seconds_left(self) -> float:
        """Return the seconds until an orderly end must begin; infinite without a limit."""
        limit = self._config.time_limit_seconds
        if limit is None:
            return math.inf
        reading = self._reading()
        return limit - reading.now - reading.reserve

    def _step_seconds(self) -> float:
        """Return the seconds of a step near the end: a median, because the process may be stopped in one step."""
        if not self._pass_seconds:
            return 0.0
        config = self._config
        passes = config.accumulations[-1] if config.clock == "time" else config.accumulation_at(self._step)
        return passes * statistics.median(self._pass_seconds)

    def _reading(self) -> _Reading:
        return self._shared if self._processes.are_several else self._own_reading()

    def _own_reading(self) -> _Reading:
        return _Reading(self.elapsed(), self.reserve(), self._reserved["evaluation"], self._reserved["save"])


def _reserve_for(times: list[float]) -> float:
    """Return the seconds to reserve for an action that has taken these times."""
    return _SAFETY_FACTOR * min(max(times), 2 * statistics.median(times)) if times else 0.0
