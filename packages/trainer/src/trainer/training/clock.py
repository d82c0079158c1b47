"""The wall clock of a run with a time limit, and what it keeps for the end."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from trainer.config import TrainConfig
from trainer.distributed.processes import Processes
from trainer.training.progress import Progress

_STEPS_AHEAD = 2  # which a GPU may still have to compute when it is asked for another: its queue is about that long
# The end is kept this much longer than it is expected to be: machines differ from themselves by so much from one ten
# seconds to the next, and the limit must hold.
_SPARE = 1.25
# A machine's speed stays alike for seconds: the last steps tell more of the end than what was measured a minute ago.
# These numbers are chosen, by runs of three minutes on one machine (docs/experiments.md).
_AROUND_SECONDS, _RECENT_SECONDS = 3.0, 20.0
_LEAST_TIMES, _MOST_REPORTS = 3, 9
_MOST_DRIFT = 1.5  # evaluations are not slower by all that makes steps slower


class Mark(NamedTuple):
    """A moment, and how often the process had been stopped before it."""

    seconds: float
    continued: int


class RunClock:
    """The wall clock of a run over all its resumes, and the ticks that follow it.

    Args:
        config: the settings of the run.
        progress: its counts, with the seconds of earlier sessions.
        began: when this session began, by `time.perf_counter`.
        seconds_before: what to count besides.
        processes: those of the run; None is this one.
        times_continued: tells how often this process has gone on after a stop; None if nobody knows.
        is_asynchronous: whether a step is only asked for, of a GPU, when `note_step` is told of it.
    """

    def __init__(
        self,
        config: TrainConfig,
        progress: Progress,
        began: float,
        seconds_before: float,
        processes: Processes | None = None,
        times_continued: Callable[[], int] | None = None,
        *,
        is_asynchronous: bool = False,
    ) -> None:
        self._config = config
        self._progress = progress
        self._origin = began - seconds_before - progress.seconds_total
        self._times_continued = times_continued or (lambda: 0)
        self._is_asynchronous = is_asynchronous
        self._asked_seconds, self._asked_passes = 0.0, 0
        self._last_passes = (0.0, 0.0)
        self._times: deque[tuple[float, float]] = deque(maxlen=1000)
        """Of the last steps: their seconds, and those of a pass in them."""
        self._next_passes = 1
        self._processes = processes or Processes()
        self._shared: tuple[float, ...] = (0.0,) * 4
        self.share()

    def share(self) -> None:
        """Let all processes decide by the writer's clock as it is now; to be called by all, after what takes time."""
        if self._processes.are_several and self._config.follows_time:
            self._shared = self._processes.from_writer_numbers(self._own())

    def now(self) -> float:
        """Seconds of the whole run for decisions: until now, or with several processes until the last `share`."""
        return self._decisive()[0]

    def mark(self) -> Mark:
        """Begin to measure how long something takes."""
        return Mark(time.perf_counter(), self._times_continued())

    def since(self, mark: Mark) -> float | None:
        """Return the seconds since then, or None if the process was stopped meanwhile."""
        return None if self._times_continued() > mark.continued else time.perf_counter() - mark.seconds

    def note_step(self, seconds: float, passes: int = 1, next_passes: int = 1) -> None:
        """Take note of what a step took, compilation aside.

        Args:
            seconds: of the step.
            passes: its grad_accumulation_steps.
            next_passes: those of the next one, of which there are more where the batch ramp rises.
        """
        self._asked_seconds += seconds
        self._asked_passes += passes
        self._next_passes = next_passes
        if not self._is_asynchronous:
            self.note_computed(0.0)

    def note_computed(self, seconds: float) -> None:
        """Take note that all steps so far are computed.

        Args:
            seconds: how long that was waited for.
        """
        if self._asked_passes:
            passing = (self._asked_seconds + seconds) / self._asked_passes
            self._last_passes = self._last_passes[1], passing
            self._times.append((passing * self._asked_passes, passing))
        self._asked_seconds, self._asked_passes = 0.0, 0

    def note_report(self, seconds: float | None) -> None:
        """Take note that an evaluation of the whole split takes so long, or nothing if the process was stopped."""
        if seconds is None:
            return
        progress, passing = self._progress, self._pass_seconds(_AROUND_SECONDS)
        progress.reserve_reports = [*progress.reserve_reports, seconds][-_MOST_REPORTS:]
        if passing:
            progress.reserve_passes = [*progress.reserve_passes, seconds / passing][-_MOST_REPORTS:]

    def elapsed(self) -> float:
        """Seconds of the whole run until now."""
        return time.perf_counter() - self._origin

    def reserve(self) -> float:
        """Seconds that the end needs: steps until the last, the last evaluation and the last checkpoint, some air."""
        # Of two steps the faster: one in which the machine did something else must not move the schedule.
        step = self._next_passes * min(self._last_passes)
        steps = 1 + _STEPS_AHEAD if self._is_asynchronous else 1
        return self._reserve_of_report() + self._reserve_of_save() + steps * step + 0.1

    def budget_is_spent(self) -> bool:
        """Whether only the time for an orderly end is left."""
        limit = self._config.time_limit_seconds
        now, reserve, *_ = self._decisive()
        return limit is not None and now + reserve >= limit

    @property
    def end_is_apart(self) -> bool:
        """Whether what is evaluated and saved right before the end does not spare the end its own."""
        return self._progress.averaged_steps > 0 or self._config.eval_tokens is not None

    def has_time_for_a_save(self, *, after_evaluation: bool = False) -> bool:
        """Whether a save that begins now is completed before only the time for an orderly end is left.

        Args:
            after_evaluation: whether an evaluation comes before it, which does not spare that of the end.
        """
        limit = self._config.time_limit_seconds
        now, reserve, save, report = self._decisive()
        return limit is None or now + reserve + save + after_evaluation * report < limit

    def has_time_for_an_evaluation(self) -> bool:
        """Whether one that begins now is completed before only the time for an orderly end with another is left."""
        limit = self._config.time_limit_seconds
        now, reserve, _, report = self._decisive()
        return limit is None or now + reserve + report < limit

    def tick(self) -> int:
        """Where the schedule is now, from 0 to `config.steps`; it never goes back."""
        config, progress = self._config, self._progress
        if config.clock == "steps" or config.time_limit_seconds is None:
            return progress.step
        if self.budget_is_spent():
            return config.steps
        now, reserve, *_ = self._decisive()
        began = now if progress.training_began is None else progress.training_began
        share = (now - began) / (config.time_limit_seconds - reserve - began)
        return max(progress.tick, min(config.steps - 1, math.floor(config.steps * share)))

    def _reserve_of_save(self) -> float:
        return _SPARE * self._progress.reserve_save

    def _reserve_of_report(self) -> float:
        progress = self._progress
        # Medians, for an evaluation during which the machine did something else tells nothing.
        known = statistics.median(progress.reserve_reports or [0.0])
        by_passes = statistics.median(progress.reserve_passes or [0.0]) * self._pass_seconds(_RECENT_SECONDS)
        report = min(max(by_passes, known / _MOST_DRIFT), known * _MOST_DRIFT) if by_passes else known
        return _SPARE * (report + progress.reserve_picture)

    def _pass_seconds(self, of_the_last: float) -> float:
        """The median of what a pass took in the last seconds, or in a few steps if they are long; 0 if none were made.

        The median, for a step in which the process was stopped, or the machine did something else, tells nothing.
        """
        passing: list[float] = []
        for seconds, one in reversed(self._times):
            if of_the_last <= 0 and len(passing) >= _LEAST_TIMES:
                break
            of_the_last -= seconds
            passing.append(one)
        return statistics.median(passing) if len(passing) >= _LEAST_TIMES else 0.0

    def _decisive(self) -> tuple[float, ...]:
        """The seconds until now, the reserve, and a save's and a report's part of it; all processes decide alike."""
        return self._shared if self._processes.are_several else self._own()

    def _own(self) -> tuple[float, ...]:
        return self.elapsed(), self.reserve(), self._reserve_of_save(), self._reserve_of_report()


def slower(known: float, seconds: float | None) -> float:
    """Return how long something takes at its slowest, after it took `seconds` once more.

    A single slow time is forgotten by halves, and None, the time of a process that was stopped, tells nothing.
    """
    return known if seconds is None else max(seconds, (known + seconds) / 2)
