"""Moments at which a run saves a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.checkpoints import BackgroundSaver, CheckpointState, CheckpointStore
from trainer.config import TrainConfig
from trainer.distributed import Processes
from trainer.training.clock import RunClock
from trainer.training.progress import Interval

_COMPLETE = 3  # times as large as the first checkpoint, which has no optimizer state yet


class Saver:
    """Saves checkpoints when they are due, in the background if the configuration allows it.

    Args:
        store: Checkpoints of the run.
        processes: Processes of the run, of which rank 0 writes.
        config: Settings of the run.
        clock: Learns how long a save takes.
        collect: Returns the state of the run; called by all processes.
        before_writing: Brings the records to the disk that a checkpoint relies on; called on rank 0, in any thread.
    """

    def __init__(
        self,
        store: CheckpointStore,
        processes: Processes,
        config: TrainConfig,
        clock: RunClock,
        collect: Callable[[], CheckpointState],
        before_writing: Callable[[], None],
    ) -> None:
        self._store = store
        self._background = BackgroundSaver(store)
        self._is_under_way = False
        self._seconds_copying, self._growth = 0.0, 1
        self._begun_step: int | None = None
        self._processes = processes
        self._config = config
        self._clock = clock
        self._collect = collect
        self._before_writing = before_writing
        self._interval = Interval(config.checkpoint_interval)
        self._saved_at = clock.now()
        self.saved_step: int | None = None
        """Step of the last checkpoint, which may still be written; None if there is none of these weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"interval": self._interval.state_dict(), "saved_step": self.saved_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the clock is restored already."""
        self._interval.load_state_dict(state["interval"])
        self._interval.go_back_to(self._clock.tick)
        self.saved_step = state["saved_step"]
        self._saved_at = self._clock.now()

    def is_due(self, *, after_evaluation: bool) -> bool:
        """Return whether an interval has passed since the last call, and there is time; call it after every step.

        Args:
            after_evaluation: Whether the model is evaluated first.
        """
        seconds = self._config.checkpoint_seconds
        by_ticks = self._interval.passed(self._clock.tick)
        by_time = seconds is not None and self._clock.now() - self._saved_at >= seconds
        is_due = by_ticks or (by_time and self._is_free())
        return is_due and self._clock.has_time_for(evaluation=after_evaluation, save=True)

    def _is_free(self) -> bool:
        return not self._processes.broadcast([self._background.is_busy()])[0]

    def skip_to_present(self) -> None:
        """Leave out what became due while a checkpoint was saved."""
        self._interval.skip_to(self._clock.tick)

    def begin(self, step: int) -> None:
        """Begin a save in the background, if the configuration allows: weights and optimizer; `save` adds the rest.

        The last evaluation changes neither, so they are written while it takes place.

        Args:
            step: Optimizer steps made.

        Raises:
            OSError: As `save`.
        """
        if not self._config.save_in_background:
            return
        self.wait()
        state = self._collect()
        self._processes.on_rank_0(lambda: self._background.begin(state))
        self._is_under_way, self._begun_step = True, step

    def save(self, step: int, *, in_background: bool = False) -> None:
        """Save the present state, after the save that is under way.

        Args:
            step: Optimizer steps made.
            in_background: Only copy the state now, and write it while training continues, if the configuration allows.
                All processes gather a sharded state first. Rank 0 writes it, without the others.

        Raises:
            OSError: If there is no space or no permission, now or for the save that was under way; earlier checkpoints
                are untouched.
        """
        self.wait()
        began = self._clock.elapsed()
        is_begun, self._begun_step = self._begun_step == step, None
        self.saved_step, self._growth = step, 1 if step else _COMPLETE
        state = self._collect()
        if is_begun and self._processes.on_rank_0(lambda: self._background.complete(state, self._before_writing)):
            pass
        elif in_background and self._config.save_in_background:
            self._processes.on_rank_0(lambda: self._background.save(state, before=self._before_writing))
            self._is_under_way, self._seconds_copying = True, self._clock.elapsed() - began
        else:
            self._processes.on_rank_0(lambda: self._write(state))
            self._clock.note("save", self._growth * (self._clock.elapsed() - began))
        self._clock.share()
        self._saved_at = self._clock.now()

    def _write(self, state: CheckpointState) -> None:
        self._store.check_space(state.num_bytes())
        self._before_writing()
        self._store.write(state)

    def poll(self) -> None:
        """Take note of a background save that has been completed; all processes must call this together.

        Raises:
            OSError: If it failed, in all processes; earlier checkpoints are untouched.
        """
        if self._is_under_way and self._is_free():
            self.wait()

    def wait(self) -> None:
        """Wait for the save that is under way; all processes must call this together.

        Raises:
            OSError: If it failed, in all processes; earlier checkpoints are untouched.
        """
        self._is_under_way = False
        seconds = self._processes.on_rank_0(self._background.wait)
        if seconds is not None:
            busy = self._seconds_copying + seconds.computing
            self._clock.note("save", self._growth * (self._seconds_copying + seconds.total))
            self._clock.note("busy", self._growth * busy)
            # Assumed: comparing weights and optimizer with what was begun takes no longer than copying and hashing.
            self._clock.note("completion", self._growth * (busy + seconds.completing))
            self._clock.share()

    def close(self) -> None:
        """Wait for the save that is under way; its failure is only warned about."""
        self._background.close()
