"""The training loop."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints import CheckpointStore
from trainer.config import TrainConfig
from trainer.data import check_length
from trainer.description import TokenSource, check_same_tokenizer, count_parameters, describe_run, tokens_of
from trainer.devices import resolve_device, resolve_dtype, synchronize
from trainer.environment import describe_environment
from trainer.evaluation import LossFunction, evaluate, evaluating
from trainer.interruption import SignalGuard, TrainingInterrupted
from trainer.loggers import ConsoleLogger, Logger, LoggerGroup
from trainer.loggers.jsonl import finite
from trainer.progress import LossMeter, Progress, RunClock
from trainer.random_states import get_random_states, preserved_random_states, seed_everything, set_random_states
from trainer.records import RunDirectory
from trainer.reporting import Reporter
from trainer.state_dicts import set_model_state, set_optimizer_state
from trainer.summary import RunStatus, Summary
from trainer.training_step import Schedule, TrainingStep, learning_rate_at

SampleFunction: TypeAlias = Callable[[nn.Module, int], str | Sequence[str]]


class Trainer:
    """Trains a model into a run directory, from which an interrupted run goes on where it was.

    Args:
        model: any module; it is moved to the device.
        optimizer: any optimizer over the model's parameters; its learning rates are set by `schedule`.
        loss_fn: loss_fn(model, inputs, targets) -> scalar mean loss in nats per token; inputs and targets are
            (batch, time) int64.
        train_data: a token file or a one-dimensional array of ids.
        valid_data: the same, for the evaluations.
        config: the settings of the loop.
        schedule: schedule(step) -> learning rate of that step, from 0; a group's `lr_scale` multiplies it.
        run_dir: where everything is written.
        loggers: who gets the records besides `metrics.jsonl`; None is the console, [] nobody.
        sample: sample(model, step) -> text or texts, kept in `samples.jsonl` at every evaluation.
        recorded: what else `config.json` shall say under "recorded"; plain JSON values.
        seconds_before: seconds that the time limit shall count besides those since the construction.

    Raises:
        ValueError: the data are shorter than one window or of two tokenizers, the device is not there, or `recorded`
            is no plain JSON.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFunction,
        train_data: TokenSource,
        valid_data: TokenSource,
        config: TrainConfig,
        schedule: Schedule,
        run_dir: str | os.PathLike[str],
        loggers: Sequence[Logger] | None = None,
        *,
        sample: SampleFunction | None = None,
        recorded: Mapping[str, Any] | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self._began: float | None = time.perf_counter()
        self._seconds_before = seconds_before
        check_length(tokens_of(train_data), config.context_length, "the training split")
        check_length(tokens_of(valid_data), config.context_length, "the validation split")
        check_same_tokenizer(train_data, valid_data)
        self.model = model
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.train_data = train_data
        self.valid_data = valid_data
        self.config = config
        self.schedule = schedule
        self.run_dir = Path(run_dir)
        self.loggers: Sequence[Logger] = [ConsoleLogger()] if loggers is None else loggers
        self.sample = sample
        self.device = resolve_device(config.device)
        self.dtype = resolve_dtype(config.dtype, self.device)
        self.description = describe_run(config, model, optimizer, train_data, valid_data, recorded or {})

    def fit(self) -> Summary:
        """Train to the end.

        A finished run is only read, and the model gets the weights of its last checkpoint; an unfinished run goes on
        from its latest intact one. The caller's random states and signal handlers are left as they were.

        Raises:
            TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
            ValueError: the directory holds a run of another configuration, or the time limit is too short.
            RunLockedError: another process is at it.
            OSError: the run directory cannot be written.
        """
        records = RunDirectory(self.run_dir)
        store = CheckpointStore(records.checkpoints, self.config.keep_checkpoints)
        if (summary := self._read_finished(records, store)) is not None:
            return summary
        records.acquire()
        group = LoggerGroup(self.loggers)
        try:
            # Once more under the lock: another process may have trained and finished in between.
            if (summary := self._read_finished(records, store)) is not None:
                return summary
            with SignalGuard() as guard, preserved_random_states():
                return _Run(self, records, store, group, guard, self._take_seconds()).train()
        finally:
            group.close()
            records.release()

    def _read_finished(self, records: RunDirectory, store: CheckpointStore) -> Summary | None:
        records.match_config(self.description)
        summary = records.read_summary()
        if summary is not None and (content := store.load_latest(set_aside=False)) is not None:
            set_model_state(self.model, content.model, str(content.path))
        return summary

    def _take_seconds(self) -> tuple[float, float]:
        """When the clock of this session began, and what to add to it: both count only once."""
        began, before = self._began, self._seconds_before
        self._began, self._seconds_before = None, 0.0
        return (time.perf_counter() if began is None else began), before


class _Run:
    """One session of a run: from its start, or from a checkpoint, to its end or an interruption."""

    def __init__(
        self,
        trainer: Trainer,
        records: RunDirectory,
        store: CheckpointStore,
        loggers: LoggerGroup,
        guard: SignalGuard,
        seconds: tuple[float, float],
    ) -> None:
        self.trainer, self.config, self.device = trainer, trainer.config, trainer.device
        self.model, self.optimizer = trainer.model.to(trainer.device), trainer.optimizer
        self.records, self.store, self.guard = records, store, guard
        self.progress, self.resumes = self._restore()
        self.clock = RunClock(self.config, self.progress, *seconds)
        self.meter = LossMeter(self.device, self.progress.loss_sum)
        self.step = TrainingStep(
            self.model,
            self.optimizer,
            trainer.loss_fn,
            tokens_of(trainer.train_data),
            self.config,
            self.device,
            trainer.dtype,
        )
        self.saved_at = time.perf_counter()
        self.saved_step = self.progress.step if self.resumes else None
        self.schedule_tick = 0
        self.reporter = Reporter(
            records, loggers, self.config, self.progress, self.clock, self.device, resumes=self.resumes
        )

    def train(self) -> Summary:
        """Make all steps and reports, and write the summary."""
        try:
            self._begin()
            while not self._has_ended():
                self._make_step()
                if self.guard.received and not self._has_ended():
                    self._interrupt(self.guard.received)
            return self._finish()
        finally:
            self.reporter.close()

    def _restore(self) -> tuple[Progress, bool]:
        """Set everything to the latest intact checkpoint, or to the start."""
        self.store.remove_leftovers()
        content = self.store.load_latest()
        if content is None:
            seed_everything(self.config.seed)
            return Progress(), False
        set_model_state(self.model, content.model, str(content.path))
        set_optimizer_state(self.optimizer, content.optimizer, str(content.path))
        set_random_states(content.training["random_states"])
        return Progress(**content.training["progress"]), True

    def _begin(self) -> None:
        environment = describe_environment(self.device, self.trainer.dtype, self.config.seed)
        self.records.write_environment(environment, self.progress.step if self.resumes else None)
        self.records.write_json("config.json", self.trainer.description)
        self.model.train()
        numbers = f"{count_parameters(self.model):,} parameters on {self.device}, records in {self.records.path}"
        if self.resumes:
            self.reporter.notice(f"resuming at step {self.progress.step:,}: {numbers}")
            return
        self.reporter.notice(numbers)
        self._evaluate()
        if self.config.time_limit_seconds is not None:
            self._save()  # to know how long it takes
            if not self._has_diverged() and self.clock.budget_is_spent():
                self.store.remove_all()  # so that another limit can be tried in this directory
                raise ValueError(
                    f"time_limit_seconds is {self.config.time_limit_seconds:g}: {self.clock.elapsed():.1f} s are gone "
                    f"before the first step and the end needs about {self.clock.reserve():.1f} s; expected more"
                )

    def _has_ended(self) -> bool:
        return self._has_diverged() or self.progress.tick >= self.config.steps or self._is_out_of_time()

    def _has_diverged(self) -> bool:
        return self.config.stop_on_divergence and self.progress.diverged_at_step is not None

    def _is_out_of_time(self) -> bool:
        return self.config.clock == "steps" and self.clock.budget_is_spent()

    def _make_step(self) -> None:
        """Make one step and the reports that are due after it."""
        progress = self.progress
        if progress.training_began is None:
            progress.training_began = self.clock.elapsed()
        began = time.perf_counter()
        # The reserve changes a little with every step, and with it the clock's ticks; the schedule must not go back.
        self.schedule_tick = max(self.schedule_tick, min(self.clock.tick(), self.config.steps - 1))
        learning_rate = learning_rate_at(self.trainer.schedule, self.schedule_tick)
        loss, grad_norm = self.step.compute_gradients(progress.step)
        self.meter.add(loss, grad_norm, progress.step + 1)
        # The CPU has the loss at hand, so a bad update is not even made. Elsewhere looking would stall the device.
        if self.device.type == "cpu" and self._check_divergence():
            self.reporter.training(progress.step + 1, math.nan, learning_rate, grad_norm.item())
            return
        self.step.apply(learning_rate)
        progress.step += 1
        self.clock.last_step_seconds = time.perf_counter() - began
        previous, progress.tick = progress.tick, self.clock.tick()
        last = self._has_ended()
        log, evaluation = (
            last or _crosses(previous, progress.tick, interval)
            for interval in (self.config.log_interval, self.config.eval_interval)
        )
        save = last or self._save_is_due(previous)
        if log or evaluation or save:
            synchronize(self.device)  # what is still computing belongs to training
            self._check_divergence()
        progress.seconds_training += time.perf_counter() - began
        if log or self._has_diverged():
            self._log(learning_rate, grad_norm.item())
        if evaluation and not self._has_diverged():
            self._evaluate()
            progress.tick = self.clock.tick()
        if save and not self._has_diverged():
            self._save()
            progress.tick = self.clock.tick()

    def _save_is_due(self, previous_tick: int) -> bool:
        config = self.config
        by_steps = config.checkpoint_interval is not None and _crosses(
            previous_tick, self.progress.tick, config.checkpoint_interval
        )
        by_time = (
            config.checkpoint_seconds is not None and time.perf_counter() - self.saved_at >= config.checkpoint_seconds
        )
        return by_steps or by_time or self.guard.received is not None

    def _check_divergence(self) -> bool:
        """Note the first step that was not finite; whether training shall stop for it."""
        if self.progress.diverged_at_step is None and (step := self.meter.first_bad_step()) is not None:
            self._note_divergence(step, "loss or gradient norm")
        return self._has_diverged()

    def _note_divergence(self, step: int, what: str) -> None:
        self.progress.diverged_at_step = step
        self.progress.divergence = f"{what} not finite at step {step:,}"
        self.reporter.notice(f"diverged: {self.progress.divergence}")

    def _log(self, learning_rate: float, grad_norm: float) -> None:
        progress = self.progress
        steps = progress.step - progress.reported_step
        self.reporter.training(progress.step, self.meter.sum() / steps, learning_rate, grad_norm)
        self.meter.reset_sum()

    def _evaluate(self) -> None:
        progress, data, began = self.progress, self.trainer.valid_data, time.perf_counter()
        with preserved_random_states():
            result = evaluate(
                self.model,
                tokens_of(data),
                self.config.context_length,
                batch_size=self.config.eval_batch_size or self.config.batch_size,
                loss_fn=self.trainer.loss_fn,
                num_bytes=getattr(data, "num_bytes", None),
                device=self.device,
                dtype=self.trainer.dtype,
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
        self.reporter.evaluation(result)
        if progress.valid_loss is None and progress.diverged_at_step is None:
            self._note_divergence(progress.step, "validation loss")
        self._write_sample()
        if self.config.time_limit_seconds is not None and progress.step == 0:
            self.reporter.draw()  # to know how long it takes
        progress.reserve_report = max(progress.reserve_report, time.perf_counter() - began)

    def _write_sample(self) -> None:
        if self.trainer.sample is None:
            return
        try:
            with evaluating(self.model), preserved_random_states():
                texts = self.trainer.sample(self.model, self.progress.step)
            self.reporter.sample(texts)
        except OSError:
            raise
        except Exception as error:
            message = f"no sample at step {self.progress.step:,}: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _save(self) -> None:
        progress, began = self.progress, time.perf_counter()
        progress.loss_sum = self.meter.sum()
        progress.seconds_total = self.clock.elapsed()
        self.reporter.sync()
        valid_loss = progress.valid_loss if progress.valid_step == progress.step else None
        training = {"progress": progress.to_dict(), "random_states": get_random_states()}
        self.store.save(progress.step, self.model, self.optimizer, training, valid_loss)
        self.saved_at, self.saved_step = time.perf_counter(), progress.step
        progress.reserve_save = max(progress.reserve_save, self.saved_at - began)

    def _interrupt(self, signal_name: str) -> None:
        if self.saved_step != self.progress.step:
            self._save()
        self.reporter.draw()
        raise TrainingInterrupted(self.records.path, self.progress.step, signal_name)

    def _finish(self) -> Summary:
        """Do what the last step left over, and write what marks a run as finished."""
        progress = self.progress
        if not self._has_diverged() and progress.valid_step != progress.step:
            self._evaluate()
            self.saved_step = None
        if not self._has_diverged() and self.saved_step != progress.step:
            self._save()
        self.reporter.sync()
        self.reporter.draw()
        progress.seconds_total = self.clock.elapsed()
        summary = self._summarize()
        self.records.write_json("summary.json", summary.to_json())
        loss = "none" if summary.final_valid_loss is None else f"{summary.final_valid_loss:.4f}"
        self.reporter.notice(f"{summary.status}: {progress.step:,} steps, validation loss {loss}")
        return summary

    def _summarize(self) -> Summary:
        progress = self.progress
        status: RunStatus = "completed" if progress.tick >= self.config.steps else "time_limit"
        reason = progress.divergence
        if self._has_diverged():
            status = "diverged"
        final = None if status == "diverged" else progress.valid_loss
        first = progress.first_valid_loss
        if reason is None and final is not None and first is not None and final > first:
            reason = f"the final validation loss {final:.4f} is above the first one, {first:.4f}"
        tokens = progress.step * self.config.tokens_per_step
        return Summary(
            status=status,
            diverged=reason is not None,
            diverged_at_step=progress.diverged_at_step,
            divergence=reason,
            steps=progress.step,
            tokens=tokens,
            parameters=count_parameters(self.model),
            final_valid_loss=final,
            best_valid_loss=progress.best_valid_loss,
            perplexity=None if final is None else progress.perplexity,
            bits_per_byte=None if final is None else progress.bits_per_byte,
            seconds_total=progress.seconds_total,
            seconds_training=progress.seconds_training,
            tokens_per_second=tokens / progress.seconds_training if progress.seconds_training > 0 else None,
        )


def _crosses(previous: int, now: int, interval: int) -> bool:
    """Whether a multiple of the interval lies in (previous, now]."""
    return previous // interval < now // interval
