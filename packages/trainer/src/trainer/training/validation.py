"""The evaluations of a run, and the texts that its model writes on the way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from torch import nn

from trainer.checkpoints.random_states import preserved_random_states
from trainer.checkpoints.restore import draw_like_the_writer
from trainer.evaluation import evaluate, evaluating
from trainer.records.lines import finite
from trainer.records.reporter import Reporter
from trainer.training.clock import RunClock
from trainer.training.progress import Progress

if TYPE_CHECKING:
    from trainer.data.splits import TokenSplit
    from trainer.evaluation import Evaluation
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
        self._part: TokenSplit | None = None
        """What evaluations on the way read; None if they read all."""
        self._batch: TokenSplit | None = None
        """Its first batch."""
        tokens, length = task.config.eval_tokens, task.config.context_length
        if tokens is not None and tokens < sum(task.valid_data.lengths):
            self._part = task.valid_data.first(tokens, length)
            self._batch = self._part.first(self._batch_size * length + 1, length)

    @property
    def _batch_size(self) -> int:
        return self._task.config.eval_batch_size or self._task.config.batch_size

    def is_due(self) -> bool:
        """Return whether the last evaluation is older than the configuration allows."""
        seconds = self._task.config.eval_seconds
        return seconds is not None and self._clock.now() - self._evaluated_at >= seconds

    def run(self, *, whole: bool = True) -> None:
        """Evaluate and sample; the random states of training are left as they were.

        Args:
            whole: read the whole validation split, even if the configuration lets evaluations on the way read less.
        """
        progress, part = self._progress, None if whole else self._part
        self._task.parallel.synchronize_buffers()
        if part is not None and progress.step == 0:
            self._evaluate(part)  # the first one is slow, and the second is to tell how long the whole will take
        mark = self._clock.mark()
        if part is not None and self._batch is not None:
            self._evaluate(self._batch)  # so that what the first batch after training takes is counted only once
        began = time.perf_counter()
        result = self._evaluate(part or self._task.valid_data)
        evaluating = time.perf_counter() - began
        self._note(result, is_whole=part is None)
        self._reporter.evaluation(result)
        self._sample()
        seconds = self._clock.since(mark)
        if part is not None and seconds is not None:
            seconds += evaluating * (sum(self._task.valid_data.lengths) / sum(part.lengths) - 1)
        self._clock.note_report(seconds)
        if self._task.config.time_limit_seconds is not None and progress.step == 0:
            mark = self._clock.mark()
            self._reporter.draw()  # to know how long it takes
            progress.reserve_picture = self._clock.since(mark) or 0.0
        self._clock.share()
        self._evaluated_at = self._clock.now()

    def _evaluate(self, data: TokenSplit) -> Evaluation:
        task, config = self._task, self._task.config
        with preserved_random_states():
            return evaluate(
                task.model,
                data,
                config.context_length,
                batch_size=self._batch_size,
                loss_fn=lambda _, inputs, targets: task.parallel.call(task.loss_fn, inputs, targets),
                device=task.device,
                dtype=task.dtype,
                processes=task.parallel.processes,
            )

    def _note(self, result: Evaluation, *, is_whole: bool) -> None:
        progress = self._progress
        progress.valid_step = progress.step if is_whole else None
        progress.valid_loss = finite(result.loss)
        progress.perplexity = finite(result.perplexity)
        progress.bits_per_byte = finite(result.bits_per_byte)
        if progress.valid_loss is None:
            return
        if progress.first_valid_loss is None:
            progress.first_valid_loss, progress.first_valid_is_whole = progress.valid_loss, is_whole
        if is_whole:
            best = progress.best_valid_loss
            progress.best_valid_loss = progress.valid_loss if best is None else min(best, progress.valid_loss)

    def _sample(self) -> None:
        task, step = self._task, self._progress.step
        processes = task.parallel.processes
        if task.sample is None or not (processes.is_writer or task.parallel.is_sharded):
            return
        try:
            with evaluating(task.model), preserved_random_states():
                if task.parallel.is_sharded:  # all write the same text, each with its part of the model
                    draw_like_the_writer(processes)
                texts = task.parallel.call(task.sample, step)
            self._reporter.sample(texts)
        except OSError:
            raise
        except Exception as error:
            message = f"no sample at step {step:,}: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
