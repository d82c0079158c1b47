"""When a run saves its state, and what."""

from __future__ import annotations

import time

from trainer.checkpoints.background import BackgroundSaver
from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.restore import collect_random_states
from trainer.checkpoints.state_dicts import get_model_state
from trainer.checkpoints.store import CheckpointStore
from trainer.config import TrainConfig
from trainer.distributed.parallel import Parallel
from trainer.records.reporter import Reporter
from trainer.training.averaging import WeightAverage
from trainer.training.clock import RunClock, slower
from trainer.training.losses import LossMeter
from trainer.training.progress import Progress, crosses


class Saver:
    """Saves checkpoints of one moment: weights, optimizer, random states, counts, and the records up to there."""

    def __init__(
        self,
        store: CheckpointStore,
        parallel: Parallel,
        config: TrainConfig,
        progress: Progress,
        clock: RunClock,
        meter: LossMeter,
        average: WeightAverage,
        reporter: Reporter,
        *,
        resumes: bool,
    ) -> None:
        self._store = store
        self._background = BackgroundSaver(store)
        self._parallel = parallel
        self._processes = parallel.processes
        self._config = config
        self._progress = progress
        self._clock = clock
        self._meter = meter
        self._average = average
        self._reporter = reporter
        self._saved_at = clock.now()
        self._saved_step = progress.step if resumes else None
        self._began = clock.mark()

    def is_due(self, previous_tick: int, *, after_evaluation: bool = False) -> bool:
        """Return whether one of the two intervals has passed.

        Args:
            previous_tick: the tick from which on the one in ticks counts.
            after_evaluation: whether the model is evaluated before.
        """
        interval, seconds = self._config.checkpoint_interval, self._config.checkpoint_seconds
        by_steps = interval is not None and crosses(previous_tick, self._progress.tick, interval)
        by_time = seconds is not None and self._clock.now() - self._saved_at >= seconds
        end_is_apart = self._clock.end_is_apart
        if not self._config.save_in_background and not end_is_apart:
            return by_steps or by_time
        # Shortly before the end the last save would only have to wait for this one.
        return (by_steps or (by_time and self._is_free())) and self._clock.has_time_for_a_save(
            after_evaluation=end_is_apart and after_evaluation
        )

    def _is_free(self) -> bool:
        return self._processes.from_writer(lambda: not self._background.is_busy())

    def is_saved(self) -> bool:
        """Return whether the present step has been saved, or is being saved."""
        return self._saved_step == self._progress.step

    def save(self, *, in_background: bool = False) -> None:
        """Save the present state, after the save that is under way.

        Args:
            in_background: only copy it now, and write it while training goes on, if the configuration allows it.

        Raises:
            OSError: there is no room or no permission, now or in the save that was under way; what was saved before
                is untouched.
        """
        self.wait()
        progress = self._progress
        self._began = began = self._clock.mark()
        self._meter.note()
        self._reporter.note()
        progress.seconds_total = self._clock.elapsed()
        state = CheckpointState(
            progress.step,
            get_model_state(self._parallel.model),
            self._parallel.optimizer.state_dict(),
            {"progress": progress.to_dict(), **self._average.to_dict(), **collect_random_states(self._processes)},
            progress.valid_loss if progress.valid_step == progress.step else None,
            progress.seconds_training,
        )
        if in_background and self._config.save_in_background and not self._parallel.is_sharded:
            if self._processes.is_writer:
                self._background.save(state, before=self._reporter.sync)
        else:
            self._write(state)
            self._note_seconds(time.perf_counter() - began.seconds)
        self._clock.share()
        self._saved_at, self._saved_step = self._clock.now(), progress.step

    def _write(self, state: CheckpointState) -> None:
        """Write a checkpoint; no process goes on before it has its name."""

        def prepare() -> None:
            self._store.check_space(state.num_bytes())
            self._reporter.sync()

        def write() -> None:
            prepare()
            self._store.write(state)

        if self._parallel.is_sharded:
            from trainer.checkpoints.sharded import write_sharded

            self._processes.from_writer(prepare)
            write_sharded(self._store, state, self._processes)
        else:
            self._processes.from_writer(write)

    def poll(self) -> None:
        """Take note of a save that has been completed.

        Raises:
            OSError: it failed; what was saved before is untouched.
        """
        self._note_seconds(self._background.poll())

    def wait(self) -> None:
        """Wait for the save that is under way.

        Raises:
            OSError: it failed; what was saved before is untouched.
        """
        self._note_seconds(self._processes.from_writer(self._background.wait))

    def close(self) -> None:
        """Wait for the save that is under way; a failure is only warned about."""
        self._background.close()

    def _note_seconds(self, seconds: float) -> None:
        if not seconds or self._clock.since(self._began) is None:
            return
        if not self._progress.reserve_save:
            seconds *= 3  # the first checkpoint has no optimizer state yet
        # In the background it takes longer, if anything, than the last save will in the foreground.
        self._progress.reserve_save = slower(self._progress.reserve_save, seconds)
