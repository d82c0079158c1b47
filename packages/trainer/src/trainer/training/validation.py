"""Evaluations of a run, and the texts that its model writes on the way."""

from __future__ import annotations

import itertools
import statistics
import warnings
from typing import Any

import torch
from torch import nn

from trainer.checkpoints import draw_like_rank_0, preserved_random_states
from trainer.data import TokenSplit
from trainer.devices import synchronize
from trainer.evaluation import Evaluation, LossResult, evaluate, evaluating
from trainer.interruption import SignalGuard
from trainer.records import Reporter, finite
from trainer.task import Task
from trainer.training import compilation
from trainer.training.clock import RunClock
from trainer.training.compilation import EvaluationLoss, FailureHandler
from trainer.training.progress import Interval

LEAST_TOKENS_TO_COMPILE = 2**25
"""Tokens left to evaluate from which the loss of evaluations is compiled. A judgement, not a measurement: by estimates
for an H100 (30 s once, 0.1 s gained by each batch of 65,536 tokens), some 20 million pay for the compiler."""
_SAVED = (
    "whole_step",
    "loss",
    "perplexity",
    "bits_per_byte",
    "first_loss",
    "best_loss",
    "best_trained_loss",
    "is_broken_off",
)


class _BrokenOffError(Exception):
    """A signal came during an evaluation."""


class Validator:
    """Evaluates the model on the validation split, keeps the losses, and takes samples.

    Args:
        task: The model, the validation split, and the settings.
        clock: Learns how long an evaluation of the whole split takes.
        reporter: Gets the losses and the samples.
        guard: A signal that it records breaks off an evaluation.
        on_compile_failure: Called if the compiler fails or is wrong; if it returns, evaluations are eager.
    """

    def __init__(
        self,
        task: Task,
        clock: RunClock,
        reporter: Reporter,
        guard: SignalGuard,
        on_compile_failure: FailureHandler,
    ) -> None:
        self._guard = guard
        self._task = task
        self._clock = clock
        self._reporter = reporter
        self._interval = Interval(task.config.eval_interval)
        self._evaluated_at = clock.now()
        self._part: TokenSplit | None = None
        """Tokens that evaluations on the way read; None if they read all."""
        tokens = task.config.eval_tokens
        if tokens is not None and tokens < task.valid_data.tokens_to_read(task.config.context_length):
            self._part = task.valid_data.first(tokens, task.config.context_length)
        self._on_compile_failure = on_compile_failure
        self._compiled: EvaluationLoss | None = None
        """The loss that evaluations call; None before the first one, or if they are eager."""
        self._timings: list[tuple[float, int]] = []
        """Beginning and tokens of each batch of the part, and the end."""
        self.whole_step: int | None = None
        """Step of the last evaluation, if it read the whole split; None if it read a part, or other weights."""
        self.loss: float | None = None
        self.perplexity: float | None = None
        self.bits_per_byte: float | None = None
        self.first_loss: float | None = None
        """Loss of the first evaluation; None if it read a part, whose loss cannot be compared with the last one."""
        self.best_loss: float | None = None
        self.best_trained_loss: float | None = None
        """The same without the evaluation of the start, which may be of weights that were trained before."""
        self.result: Evaluation | None = None
        """The last evaluation of this session."""
        self.has_improved = False
        """Whether the last evaluation was the best one of the whole split so far, that of the start apart."""
        self.is_broken_off = False
        """Whether a signal has broken off an evaluation, which is still to be made when the run resumes."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"interval": self._interval.state_dict(), **{name: getattr(self, name) for name in _SAVED}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the clock is restored already."""
        self._interval.load_state_dict(state["interval"])
        self._interval.go_back_to(self._clock.tick)
        for name in _SAVED:
            setattr(self, name, state.get(name))
        self._evaluated_at = self._clock.now()

    def is_due(self) -> bool:
        """Return whether an interval has passed since the last call, and there is time; call it after every step."""
        seconds = self._task.config.eval_seconds
        by_ticks = self._interval.passed(self._clock.tick)
        by_time = seconds is not None and self._clock.now() - self._evaluated_at >= seconds
        return (by_ticks or by_time) and self._clock.has_time_for(evaluation=True)

    def run(self, step: int, *, whole: bool, averaged_steps: int = 0) -> None:
        """Evaluate, report, and sample; the random states of training are left as they were.

        If a signal comes, or has come before, nothing is evaluated, and `is_broken_off` is true afterwards.

        Args:
            step: Optimizer steps made.
            whole: Read the whole split, even if evaluations on the way may read less.
            averaged_steps: Steps whose weights are averaged in the model; 0 if it has its own.
        """
        part = None if whole else self._part
        self._task.parallel.synchronize_buffers()
        if self._compiled is None and self._compiling_pays(whole=whole):
            shape = self._batch_size, self._task.config.context_length
            self._compiled = EvaluationLoss(
                self._task.parallel, self._task.loss_fn, shape, self._task.dtype, self._on_compile_failure
            )
        began = self._elapsed()
        try:
            result = self._evaluate(part or self._task.valid_data)
        except _BrokenOffError:
            self.is_broken_off = True
            return
        self.is_broken_off, self.result = False, result
        self._keep(result, step, is_whole=part is None)
        self._reporter.evaluation(step, result, averaged_steps)
        self._sample(step)
        self._clock.note("evaluation", self._elapsed() - began + self._seconds_of_the_rest(part))
        if self._task.config.time_limit_seconds is not None and step == 0:
            began = self._clock.elapsed()
            self._reporter.export()  # to know how long it takes
            self._clock.note("export", self._clock.elapsed() - began)
        self._clock.share()
        self._evaluated_at = self._clock.now()

    def skip_to_present(self) -> None:
        """Leave out what became due while the model was evaluated."""
        self._interval.skip_to(self._clock.tick)

    def forget_whole(self) -> None:
        """Note that the model has other weights than the last evaluation."""
        self.whole_step = None

    def _evaluate(self, data: TokenSplit) -> Evaluation:
        task, config = self._task, self._task.config
        with preserved_random_states():
            result = evaluate(
                task.model,
                data,
                config.context_length,
                batch_size=self._batch_size,
                loss_fn=self._timed_loss if data is self._part else self._loss,
                device=task.device,
                dtype=task.dtype,
                processes=task.parallel.processes,
            )
        self._timings.append((self._elapsed(), 0))
        return result

    @property
    def _batch_size(self) -> int:
        return self._task.config.eval_batch_size or self._task.config.batch_size

    def _elapsed(self) -> float:
        """Return the seconds of the run without those of compiling the loss of evaluations."""
        return self._clock.elapsed() - (0.0 if self._compiled is None else self._compiled.seconds_compiling)

    def _compiling_pays(self, *, whole: bool) -> bool:
        """Return whether compiled evaluations are wanted, and enough tokens are left to pay for the compiler.

        Args:
            whole: Whether only the last evaluation is left.
        """
        task, config = self._task, self._task.config
        if not compilation.is_wanted(config, task.device) or task.parallel.processes.are_several:
            return False
        length = config.context_length
        whole_tokens = task.valid_data.tokens_to_read(length)
        tokens = whole_tokens if self._part is None else self._part.tokens_to_read(length)
        on_the_way = 0 if whole else -(-(config.steps - self._clock.tick) // config.eval_interval)
        return on_the_way * tokens + whole_tokens >= LEAST_TOKENS_TO_COMPILE

    def _loss(self, _: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> LossResult:
        self._guard.share()  # all processes stop at the same batch
        if self._guard.received:
            raise _BrokenOffError
        if self._compiled is not None:
            return self._compiled(inputs, targets)
        return self._task.parallel.call(self._task.loss_fn, inputs, targets)

    def _timed_loss(self, _: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> LossResult:
        if self._task.config.time_limit_seconds is not None:
            synchronize(self._task.device)
            self._timings.append((self._elapsed(), inputs.numel()))
        return self._loss(_, inputs, targets)

    def _seconds_of_the_rest(self, part: TokenSplit | None) -> float:
        """Return the seconds that the rest of the split would have taken, at the pace of the part's usual batch.

        The first batch after training is often slower, and any batch may have been stopped: a mean would multiply that.
        """
        timings, self._timings = self._timings, []
        if part is None or len(timings) < 2:
            return 0.0
        paces = [(after - begin) / tokens for (begin, tokens), (after, _) in itertools.pairwise(timings)]
        length = self._task.config.context_length
        rest = self._task.valid_data.tokens_to_read(length) - part.tokens_to_read(length)
        return rest / self._task.parallel.processes.world_size * statistics.median(paces[1:] or paces)

    def _keep(self, result: Evaluation, step: int, *, is_whole: bool) -> None:
        self.whole_step = step if is_whole else None
        self.loss = finite(result.loss)
        self.perplexity = finite(result.perplexity)
        self.bits_per_byte = finite(result.bits_per_byte)
        self.has_improved = False
        if self.loss is None or not is_whole:
            return
        if step == 0:
            self.first_loss = self.loss
        else:
            self.has_improved = self.best_trained_loss is None or self.loss < self.best_trained_loss
            self.best_trained_loss = self.loss if self.has_improved else self.best_trained_loss
        self.best_loss = self.loss if self.best_loss is None else min(self.best_loss, self.loss)

    def _sample(self, step: int) -> None:
        task, processes = self._task, self._task.parallel.processes
        if task.sample is None or not (processes.is_rank_0 or task.parallel.is_sharded):
            return
        try:
            with evaluating(task.model), preserved_random_states():
                if task.parallel.is_sharded:  # every process writes the same text, each with its shard of the model
                    draw_like_rank_0(processes)
                texts = task.parallel.call(task.sample, step)
            self._reporter.sample(step, texts)
        except OSError:
            raise
        except Exception as error:
            message = f"no sample at step {step:,}: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
