"""One session of a run: from its start, or from a checkpoint, to its end or an interruption."""

from __future__ import annotations

import math
import time

import torch

from trainer.checkpoints.restore import restore
from trainer.checkpoints.single_file import CheckpointStore
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.loader import BatchLoader
from trainer.devices.devices import synchronize
from trainer.interruption import SignalGuard, TrainingInterrupted
from trainer.loggers import LoggerGroup, RunInfo
from trainer.records.description import count_parameters
from trainer.records.environment import describe_environment
from trainer.records.outcome import summarize
from trainer.records.reporter import Reporter
from trainer.records.run_directory import RunDirectory
from trainer.records.summary import Summary
from trainer.support.closing import closing_all
from trainer.task import Task
from trainer.training.averaging import WeightAverage
from trainer.training.clock import RunClock
from trainer.training.divergence import Divergence
from trainer.training.losses import LossMeter
from trainer.training.progress import crosses
from trainer.training.saving import Saver
from trainer.training.step import TrainingStep, learning_rate_at
from trainer.training.validation import Validator


class Session:
    """Makes the steps of a run, and what is due between them."""

    def __init__(
        self,
        task: Task,
        records: RunDirectory,
        store: CheckpointStore,
        loggers: LoggerGroup,
        guard: SignalGuard,
        seconds: tuple[float, float, float],
    ) -> None:
        self.task, self.config, self.device = task, task.config, task.device
        self.records, self.store, self.guard = records, store, guard
        self.processes = task.parallel.processes
        self.progress, means, self.resumes = restore(task, store)
        task.parallel.start()
        self.average = WeightAverage(task.parallel, self.config, self.progress, means)
        began, before, earlier = seconds
        self.progress.seconds_total = max(self.progress.seconds_total, earlier)
        self.clock = RunClock(
            self.config,
            self.progress,
            began,
            before,
            self.processes,
            lambda: guard.continued,
            is_asynchronous=self.device.type != "cpu",
        )
        self.meter = LossMeter(self.progress)
        ranks = self.processes.rank, self.processes.world_size
        self.loader = BatchLoader(BatchSource(task.train_data, self.config, *ranks), self.device)
        self.step = TrainingStep(
            task.parallel,
            task.loss_fn,
            self.loader,
            self.config,
            self.device,
            task.dtype,
            micro_batch_size=self.progress.micro_batch_size,
            on_halving=self._note_halving,
        )
        self.schedule_tick = 0
        self.reporter = Reporter(records, loggers, task, self.progress, self.clock, resumes=self.resumes)
        self.divergence = Divergence(self.progress, self.meter, self.reporter)
        self.validator = Validator(task, self.progress, self.clock, self.reporter)
        self.saver = Saver(
            store,
            task.parallel,
            self.config,
            self.progress,
            self.clock,
            self.meter,
            self.average,
            self.reporter,
            resumes=self.resumes,
        )

    def train(self) -> Summary:
        """Make all steps and reports, and write the summary."""
        with closing_all(self.loader.close, self.saver.close, self.reporter.close):
            self._begin()
            while not self._has_ended():
                self._make_step()
                if self.guard.received and not self._has_ended():
                    self._interrupt(self.guard.received)
            return self._finish()

    def _begin(self) -> None:
        environment = (
            describe_environment(self.device, self.task.dtype, self.config.seed) | self.task.parallel.describe()
        )
        run_id = self.records.write_environment(environment, self.progress.step if self.resumes else None)
        self.records.write_json("config.json", self.task.description)
        self.reporter.start(
            RunInfo(
                run_dir=self.records.path,
                run_id=run_id,
                step=self.progress.step,
                resumes=self.resumes,
                config=self.task.description,
                environment=environment,
                best_checkpoint=self.store.best,
            )
        )
        self.task.model.train()
        parameters = count_parameters(self.task.model)
        numbers = f"{parameters:,} parameters on {self.device}, records in {self.records.path}"
        if self.resumes:
            self.reporter.notice(f"resuming at step {self.progress.step:,}: {numbers}")
            return
        self.reporter.notice(numbers)
        self._evaluate(whole=False)
        if self.config.time_limit_seconds is not None:
            self.saver.save()  # to know how long it takes
            if not self.divergence.has_come() and self.clock.budget_is_spent():
                # So that another limit can be tried in this directory.
                self.processes.from_writer(self.store.remove_all)
                raise ValueError(
                    f"time_limit_seconds is {self.config.time_limit_seconds:g}: {self.clock.elapsed():.1f} s are gone "
                    f"before the first step and the end needs about {self.clock.reserve():.1f} s; expected more"
                )

    def _has_ended(self) -> bool:
        is_over = self.progress.is_averaged or self.progress.tick >= self.config.steps
        return is_over or self.divergence.has_come() or self._is_out_of_time()

    def _is_out_of_time(self) -> bool:
        return self.config.clock == "steps" and self.clock.budget_is_spent()

    def _make_step(self) -> None:
        """Make one step and the reports that are due after it."""
        self.saver.poll()
        progress = self.progress
        if progress.training_began is None:
            progress.training_began = self.clock.now()
        began, compiled_before = time.perf_counter(), self.step.seconds_compiling
        # The reserve changes a little with every step, and with it the clock's ticks; the schedule must not go back.
        self.schedule_tick = max(self.schedule_tick, min(self.clock.tick(), self.config.steps - 1))
        learning_rate = learning_rate_at(self.task.schedule, self.schedule_tick)
        batches = StepBatches(
            progress.windows // self.config.batch_size, self.config.accumulation_at(self.schedule_tick)
        )
        progress.step_windows, progress.learning_rate = batches.count * self.config.batch_size, learning_rate
        loss, grad_norm = self.step.compute_gradients(progress.step, batches)
        if self.config.on_non_finite == "skip" and not bool(torch.isfinite(loss + grad_norm)):
            self.divergence.skip(loss.item(), grad_norm.item())
        else:
            progress.skipped_in_a_row = 0
            self.meter.add(loss, grad_norm, progress.step + 1)
            # The CPU has the loss at hand, so a bad update is not even made. Elsewhere looking would stall the device.
            if self.device.type == "cpu" and self.divergence.check():
                self.reporter.training(progress.step + 1, math.nan, None, learning_rate, grad_norm.item())
                return
            self.step.apply(learning_rate)
            self.average.add(self.schedule_tick)
        progress.step += 1
        progress.windows += progress.step_windows
        compiling = self.step.seconds_compiling - compiled_before
        next_passes = self.config.accumulation_at(self.schedule_tick + 1)
        self.clock.note_step(time.perf_counter() - began - compiling, batches.count, next_passes)
        self.clock.share()
        if progress.step <= 2 and compiling:  # of the loss, then of the update: it must not use the warm-up up
            progress.training_began = self.clock.now()
        self.guard.share()
        tested, progress.tick = progress.tested_tick, self.clock.tick()
        progress.tested_tick = progress.tick
        last = self._has_ended()
        log = last or crosses(tested, progress.tick, self.config.log_interval)
        before = max(tested, progress.evaluated_tick)
        evaluation = last or crosses(before, progress.tick, self.config.eval_interval) or self.validator.is_due()
        if not last and self.clock.end_is_apart:
            evaluation = evaluation and self.clock.has_time_for_an_evaluation()
        before = max(tested, progress.saved_tick)
        save = last or self.saver.is_due(before, after_evaluation=evaluation) or self.guard.received is not None
        if log or evaluation or save:
            waiting = time.perf_counter()
            synchronize(self.device)  # what is still computing belongs to training
            self.clock.note_computed(time.perf_counter() - waiting)
            self.divergence.check()
        progress.seconds_training += time.perf_counter() - began - compiling
        if log or self.divergence.has_come():
            self._log(grad_norm.item())
        if evaluation and not self.divergence.has_come():
            if last:
                self.average.finish()
            self._evaluate(whole=last)
            progress.tick = progress.evaluated_tick = self.clock.tick()
        if save and not self.divergence.has_come():
            progress.saved_tick = progress.tick
            self.saver.save(in_background=not last and self.guard.received is None)
            progress.tick = progress.saved_tick = self.clock.tick()

    def _note_halving(self, message: str) -> None:
        self.progress.micro_batch_size = self.step.micro_batch_size
        self.reporter.incident("halved", message, self.progress.step + 1, micro_batch_size=self.step.micro_batch_size)

    def _log(self, grad_norm: float) -> None:
        progress = self.progress
        assert progress.learning_rate is not None
        usual = progress.usual_loss
        mean, largest, is_spike = self.meter.take()
        self.reporter.training(progress.step, mean, largest, progress.learning_rate, grad_norm)
        if is_spike:
            message = f"spike: a loss of {largest:.4f} in the steps up to {progress.step:,}, usual is {usual:.4f}"
            self.reporter.incident("spike", message, progress.step, loss=largest, usual_loss=usual)

    def _log_what_is_left(self) -> None:
        """Report the losses of steps of which none knew that it was the last, because the time was over only later."""
        progress = self.progress
        if progress.loss_count:
            self.divergence.check()
            self.meter.note()
            # A checkpoint of an earlier version, after which there is no time for a step, does not say.
            if progress.learning_rate is not None and progress.grad_norm is not None:
                self._log(progress.grad_norm)

    def _evaluate(self, *, whole: bool) -> None:
        self.validator.run(whole=whole)
        self.divergence.check_evaluation()

    def _interrupt(self, signal_name: str) -> None:
        if not self.saver.is_saved():
            self.saver.save()
        self.saver.wait()
        self.reporter.draw()
        raise TrainingInterrupted(self.records.path, self.progress.step, signal_name)

    def _finish(self) -> Summary:
        """Do what the last step left over, and write what marks a run as finished."""
        progress = self.progress
        if not self.divergence.has_come():
            self._log_what_is_left()
        if not self.divergence.has_come():
            self.average.finish()
            if (absence := self.average.describe_absence()) is not None:
                self.reporter.notice(absence)
            evaluated = progress.valid_step == progress.step
            if not evaluated:
                self._evaluate(whole=True)
            if not self.divergence.has_come() and not (evaluated and self.saver.is_saved()):
                self.saver.save()
        self.saver.wait()
        self.reporter.sync()
        self.reporter.draw()
        progress.seconds_total = self.clock.elapsed()
        parameters = count_parameters(self.task.model)
        has_diverged = self.divergence.has_come()
        summary = summarize(progress, self.config, self.device, self.task.speed, parameters, has_diverged=has_diverged)
        self.records.write_json("summary.json", summary.to_json())
        loss = "none" if summary.final_valid_loss is None else f"{summary.final_valid_loss:.4f}"
        mean = f" of the mean of {progress.averaged_steps:,} steps' weights" if progress.is_averaged else ""
        self.reporter.notice(f"{summary.status}: {progress.step:,} steps, validation loss {loss}{mean}")
        self.reporter.finish(summary)
        return self.processes.from_writer(lambda: summary)
