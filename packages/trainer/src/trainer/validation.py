"""The evaluations of a run, and the texts that its model writes on the way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from torch import nn

from trainer.evaluation import evaluate, evaluating
from trainer.loggers.jsonl import finite
from trainer.progress import Progress, RunClock
from trainer.random_states import preserved_random_states
from trainer.reporting import Reporter
from trainer.restoring import draw_like_the_writer

if TYPE_CHECKING:
    from trainer.task import Task

SampleFunction: TypeAlias = Callable[[nn.Module, int], str | Sequence[str]]
"""sample(model, step) -> text or texts."""


class Validator:
    """Evaluates the model on the whole validation split, notes the losses in the progress, and takes samples."""

    def __init__(self, task: Task, progress: Progress, clock: RunClock, reporter: Reporter) -> None:
        self._task = task
        self._progress = progress
        self._clock = clock
        self._reporter = reporter
        self._evaluated_at = clock.now()

    def is_due(self) -> bool:
        """Return whether the last evaluation is older than the configuration allows."""
        seconds = self._task.config.eval_seconds
        return seconds is not None and self._clock.now() - self._evaluated_at >= seconds

    def run(self) -> None:
        """Evaluate and sample; the random states of training are left as they were."""
        task, progress, began = self._task, self._progress, time.perf_counter()
        data, config = task.valid_data, task.config
        task.parallel.synchronize_buffers()
        with preserved_random_states():
            result = evaluate(
                task.model,
                data,
                config.context_length,
                batch_size=config.eval_batch_size or config.batch_size,
                loss_fn=lambda _, inputs, targets: task.parallel.call(task.loss_fn, inputs, targets),
                device=task.device,
                dtype=task.dtype,
                processes=task.parallel.processes,
            )
        progress.valid_step = progress.step
        progress.valid_loss = finite(result.loss)
        progress.perplexity = finite(result.perplexity)
        progress.bits_per_byte = finite(result.bits_per_byte)
        if progress.valid_loss is not None:
            best = progress.best_valid_loss
            progress.best_valid_loss = progress.valid_loss if best is None else min(best, progress.valid_loss)
            if progress.first_valid_loss is None:
                progress.first_valid_loss = progress.valid_loss
        self._reporter.evaluation(result)
        self._sample()
        if config.time_limit_seconds is not None and progress.step == 0:
            self._reporter.draw()  # to know how long it takes
        progress.reserve_report = max(progress.reserve_report, time.perf_counter() - began)
        self._clock.share()
        self._evaluated_at = self._clock.now()

    def _sample(self) -> None:
        task, step = self._task, self._progress.step
        processes = task.parallel.processes
        if task.sample is None or not (processes.is_writer or task.parallel.is_sharded):
            return
        try:
            with evaluating(task.model), preserved_random_states():
                if task.parallel.is_sharded:  # all write the same text, each with its part of the model
                    draw_like_the_writer(processes, task.device)
                texts = task.parallel.call(task.sample, step)
            self._reporter.sample(texts)
        except OSError:
            raise
        except Exception as error:
            message = f"no sample at step {step:,}: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
