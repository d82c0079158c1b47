"""When a run saves its state, and what."""

from __future__ import annotations

import time

from torch import nn
from torch.optim import Optimizer

from trainer.background_saving import BackgroundSaver
from trainer.checkpoint_format import CheckpointState
from trainer.checkpoint_store import CheckpointStore
from trainer.config import TrainConfig
from trainer.loss_meter import LossMeter
from trainer.progress import Progress, RunClock, crosses
from trainer.random_states import get_random_states
from trainer.reporting import Reporter
from trainer.state_dicts import get_model_state


class Saver:
    """Saves checkpoints of one moment: weights, optimizer, random states, counts, and the records up to there."""

    def __init__(
        self,
        store: CheckpointStore,
        model: nn.Module,
        optimizer: Optimizer,
        config: TrainConfig,
        progress: Progress,
        clock: RunClock,
        meter: LossMeter,
        reporter: Reporter,
        *,
        resumes: bool,
    ) -> None:
        self._store = store
        self._background = BackgroundSaver(store)
        self._model = model
        self._optimizer = optimizer
        self._config = config
        self._progress = progress
        self._clock = clock
        self._meter = meter
        self._reporter = reporter
        self._saved_at = time.perf_counter()
        self._saved_step = progress.step if resumes else None

    def is_due(self, previous_tick: int) -> bool:
        """Return whether one of the two intervals has passed since the tick before the last step."""
        interval, seconds = self._config.checkpoint_interval, self._config.checkpoint_seconds
        by_steps = interval is not None and crosses(previous_tick, self._progress.tick, interval)
        by_time = seconds is not None and time.perf_counter() - self._saved_at >= seconds
        if not self._config.save_in_background:
            return by_steps or by_time
        # Shortly before the end the last save would only have to wait for this one.
        return (by_steps or (by_time and not self._background.is_busy())) and self._clock.has_time_for_a_save()

    def is_saved(self) -> bool:
        """Return whether the present state has been saved, or is being saved."""
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
        progress, began = self._progress, time.perf_counter()
        self._meter.note()
        progress.seconds_total = self._clock.elapsed()
        state = CheckpointState(
            progress.step,
            get_model_state(self._model),
            self._optimizer.state_dict(),
            {"progress": progress.to_dict(), "random_states": get_random_states()},
            progress.valid_loss if progress.valid_step == progress.step else None,
            progress.seconds_training,
        )
        if in_background and self._config.save_in_background:
            self._background.save(state, before=self._reporter.sync)
        else:
            self._store.check_space(state.num_bytes())
            self._reporter.sync()
            self._store.write(state)
            self._note_seconds(time.perf_counter() - began)
        self._saved_at, self._saved_step = time.perf_counter(), progress.step

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
        self._note_seconds(self._background.wait())

    def close(self) -> None:
        """Wait for the save that is under way; a failure is only warned about."""
        self._background.close()

    def _note_seconds(self, seconds: float) -> None:
        # In the background it takes longer, if anything, than the last save will in the foreground.
        self._progress.reserve_save = max(self._progress.reserve_save, seconds)
