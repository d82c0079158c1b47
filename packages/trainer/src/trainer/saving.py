"""When a run saves its state, and what."""

from __future__ import annotations

import time

from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints import CheckpointStore
from trainer.config import TrainConfig
from trainer.loss_meter import LossMeter
from trainer.progress import Progress, RunClock, crosses
from trainer.random_states import get_random_states
from trainer.reporting import Reporter


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
        return by_steps or by_time

    def is_saved(self) -> bool:
        """Return whether the present state has been saved."""
        return self._saved_step == self._progress.step

    def save(self) -> None:
        """Save the present state.

        Raises:
            OSError: there is no room or no permission; what was saved before is untouched.
        """
        progress, began = self._progress, time.perf_counter()
        self._meter.note()
        progress.seconds_total = self._clock.elapsed()
        self._reporter.sync()
        valid_loss = progress.valid_loss if progress.valid_step == progress.step else None
        training = {"progress": progress.to_dict(), "random_states": get_random_states()}
        self._store.save(progress.step, self._model, self._optimizer, training, valid_loss)
        self._saved_at, self._saved_step = time.perf_counter(), progress.step
        progress.reserve_save = max(progress.reserve_save, self._saved_at - began)
