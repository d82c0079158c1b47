"""Training loop: one session of a run, from its start or a checkpoint to its end or an interruption."""

from __future__ import annotations

import math
import traceback
from contextlib import ExitStack
from typing import Any, NoReturn, Protocol

import torch

from trainer.callbacks import CallbackGroup, RunState
from trainer.checkpoints import (
    CheckpointState,
    CheckpointStore,
    collect_random_states,
    get_model_state,
    restore_run,
    storable,
)
from trainer.data import BatchLoader, StepBatches
from trainer.devices import peak_memory_bytes, synchronize
from trainer.interruption import SignalGuard, TrainingInterrupted
from trainer.loggers import LoggerGroup, RunInfo
from trainer.records import (
    Changes,
    Reporter,
    RunDirectory,
    RunStatus,
    Summary,
    count_parameters,
    describe_changes,
    describe_environment,
)
from trainer.support.files import write_atomically
from trainer.task import Task
from trainer.training.averaging import WeightAverage
from trainer.training.clock import RunClock
from trainer.training.compilation import CompilationError, describe_failure
from trainer.training.losses import Losses
from trainer.training.profiling import StepProfile
from trainer.training.progress import Counts, Interval
from trainer.training.rates import Rates
from trainer.training.saving import Saver
from trainer.training.step import TrainingStep
from trainer.training.validation import Validator

COMPILE_LOG = "compile_error.txt"


class Stateful(Protocol):
    """Part of a run that saves and restores its own state."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class TrainingLoop:
    """Makes the steps of a run, with the logging, evaluation and saving that are due between them.

    Every part owns its state. A checkpoint holds the `state_dict` of each part, under its name in `parts`.

    Args:
        task: The trainer's arguments, resolved for this machine.
        records: Run directory.
        store: Checkpoints of the run.
        loggers: Receivers of the records.
        guard: Record of the signals that came.
        clock: Clock of the run.
        changes: Settings that have changed since the last session.
    """

    def __init__(
        self,
        task: Task,
        records: RunDirectory,
        store: CheckpointStore,
        loggers: LoggerGroup,
        guard: SignalGuard,
        clock: RunClock,
        changes: Changes,
    ) -> None:
        self.task, self.config, self.device, self.parallel = task, task.config, task.device, task.parallel
        self.records, self.store, self.loggers, self.guard, self.clock = records, store, loggers, guard, clock
        self.processes = task.parallel.processes
        self.changes = changes
        self.counts = Counts()
        self.log_interval = Interval(self.config.log_interval)
        self.reporter = Reporter(records, loggers, self._moment, task.speed, self.device)
        self.loader = BatchLoader(task.batches, self.device)
        self.step = TrainingStep(
            self.parallel,
            task.loss_fn,
            self.loader,
            self.config,
            self.device,
            task.dtype,
            scheduled=task.factor_schedules.keys(),
            on_halving=self._report_halving,
            on_compile_failure=self._report_compile_failure,
            on_unchecked=self.reporter.notice,
        )
        self.rates = Rates(task.schedule, self.parallel.optimizer, task.factor_schedules)
        self.losses = Losses(on_divergence=self.reporter.notice)
        self.average = WeightAverage(self.parallel, self.config)
        self.validator = Validator(task, clock, self.reporter, guard, self._report_compile_failure)
        self.callbacks = CallbackGroup(task.callbacks, self.processes)
        is_rank_0 = self.processes.is_rank_0
        peak = task.speed.peak_flops
        self.profile = StepProfile(
            self.config.profile if is_rank_0 else None,
            self.device,
            peak and peak / self.processes.world_size,
            records.path / "profile",
            self.reporter.notice,
        )
        self.saver = Saver(store, self.processes, self.config, clock, self._collect_state, self.reporter.sync)
        self.parts: dict[str, Stateful] = {
            "clock": clock,  # first, because other parts read it while they are restored
            "counts": self.counts,
            "step": self.step,
            "rates": self.rates,
            "losses": self.losses,
            "average": self.average,
            "validation": self.validator,
            "saving": self.saver,
            "callbacks": self.callbacks,
            "reports": self.reporter,
            "log_interval": self.log_interval,
        }
        state = restore_run(store, self.parallel, self.config.seed)
        self.resumes = state is not None
        if state is not None:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.log_interval.go_back_to(clock.tick)
            if self.average.is_finished and clock.tick < self.config.steps and not self._is_out_of_time():
                self.average.restart()
            if changes:
                self.callbacks.have_stopped = False
            sizes = [(name, getattr(self.config, name)) for name in ("batch_size", "grad_accumulation_steps")]
            before, now = [changes.get(name, (value,))[0] for name, value in sizes], [value for _, value in sizes]
            if before != now and self.config.sampling == "random":
                self.counts.leave_out_used_batches((before[0], before[1]), (now[0], now[1]))
        self.parallel.start()

    def train(self) -> Summary:
        """Make all steps, and write the summary.

        Raises:
            TrainingInterrupted: If a signal came; everything is saved.
        """
        with ExitStack() as stack:
            stack.enter_context(self.reporter)
            stack.callback(self.saver.close)
            stack.callback(self.loader.close)
            self._begin()
            stack.enter_context(self.profile)
            while not self._has_ended():
                self._make_step()
                if self.guard.received and not self._has_ended():
                    self._interrupt(self.guard.received)
            return self._finish()

    def _begin(self) -> None:
        self._check_state()
        environment = describe_environment(self.device, self.task.dtype, self.config.seed)
        environment |= {"processes": self.processes.world_size, "parallel": self.parallel.name}
        step = self.counts.step
        earlier = None if self.resumes else self.records.begin_anew(self.task.description)
        run_id = self.records.write_environment(environment, step if self.resumes else None, self.changes)
        self.records.remove_summary()
        self.records.write_json("config.json", self.task.description)
        self.reporter.open(step if self.resumes else -1)
        self.loggers.on_start(
            RunInfo(
                run_dir=self.records.path,
                run_id=run_id,
                step=step,
                resumes=self.resumes,
                config=self.task.description,
                environment=environment,
                best_checkpoint=self.store.best,
            )
        )
        self.task.model.train()
        parameters = count_parameters(self.task.model)
        numbers = f"{parameters:,} parameters on {self.device}, records in {self.records.path}"
        self.reporter.notice(f"resuming at step {step:,}: {numbers}" if self.resumes else numbers)
        if earlier is not None:
            self.reporter.notice(earlier)
        if self.changes:
            self.reporter.notice(f"changed from step {step:,} on: {describe_changes(self.changes)}")
        if self.resumes and (not self.validator.is_broken_off or self._has_ended()):
            return
        self._evaluate(whole=False)
        if step > 0:
            self._save(in_background=True)  # a checkpoint that knows its loss
        elif self.config.time_limit_seconds is not None:
            self._save(in_background=True)  # measures the time to reserve for the save at the end
            self.saver.wait()
            if not self.losses.have_diverged and self.clock.budget_is_spent():
                # Without a checkpoint, another limit can be tried in this directory.
                self.processes.on_rank_0(self.store.remove_all)
                raise ValueError(
                    f"time_limit_seconds is {self.config.time_limit_seconds:g}: {self.clock.elapsed():.1f} s have "
                    f"passed before the first step, and the end needs about {self.clock.reserve():.1f} s; "
                    "expected more time"
                )

    def _check_state(self) -> None:
        """Check that checkpoints can hold the state, as far as it exists before the first step.

        Raises:
            TypeError: If they cannot.
        """
        for name, part in self.parts.items():
            storable(part.state_dict(), name)
        storable(self.parallel.optimizer.state_dict()["param_groups"], "optimizer.param_groups")
        storable(get_model_state(self.task.model), "model")

    def _has_ended(self) -> bool:
        is_over = self.average.is_finished or self.clock.tick >= self.config.steps
        return is_over or self.losses.have_diverged or self.callbacks.have_stopped or self._is_out_of_time()

    def _is_out_of_time(self) -> bool:
        """Return whether a time limit ends a run that counts steps; with `clock="time"` the last tick ends it."""
        return self.config.clock == "steps" and self.clock.budget_is_spent()

    def _make_step(self) -> None:
        """Make one step (batches, gradients, update, counts), then log, evaluate and save if due."""
        self.saver.poll()
        self.clock.begin_training()
        began, compiled_before = self.clock.elapsed(), self.step.seconds_compiling
        tick = min(self.clock.advance(), self.config.steps - 1)
        batches = self._choose_batches(tick)
        loss, grad_norm = self.step.compute_gradients(self.counts.step, batches)
        if not self._update(loss, grad_norm, tick):
            return
        self.profile.step()
        self.counts.step += 1
        self.counts.windows += self.counts.step_windows
        compiling = self.step.seconds_compiling - compiled_before
        self._advance_clock(began + compiling, batches.count, compiling)
        self.callbacks.call("on_step", self._state(loss))
        last = self._has_ended()
        log = self.log_interval.passed(self.clock.tick) or last
        evaluate = self.validator.is_due() or last
        save = self.saver.is_due(after_evaluation=evaluate) or last or self.guard.received is not None
        if log or evaluate or save:
            self._wait_for_the_device()
        self.counts.seconds_training += self.clock.elapsed() - began - compiling
        if log or self.losses.have_diverged:
            self._log(grad_norm.item())
        with self.profile.paused():
            if evaluate and not self.losses.have_diverged:
                if last:
                    self._finish_average()
                self._evaluate(whole=last)
                self.clock.advance()
                self.validator.skip_to_present()
                save = save or (self.validator.has_improved and self.clock.has_time_for(save=True))
            if save and not self.losses.have_diverged:
                self._save(in_background=not last and self.guard.received is None)
                self.clock.advance()
                self.saver.skip_to_present()

    def _choose_batches(self, tick: int) -> StepBatches:
        """Return the batches of the next step, and set its learning rate."""
        size, counts = self.config.batch_size, self.counts
        counts.learning_rate = self.rates.at(tick)
        batches = StepBatches(counts.batch_offset + counts.windows // size, self.config.accumulation_at(tick))
        counts.step_windows = batches.count * size
        return batches

    def _update(self, loss: torch.Tensor, grad_norm: torch.Tensor, tick: int) -> bool:
        """Apply the gradients, unless the loss or their norm is not finite; return False if that ends the run."""
        counts, step = self.counts, self.counts.step + 1
        assert counts.learning_rate is not None
        if self._must_omit(loss, grad_norm):
            self.step.omit(grad_norm)
            values = {"loss": loss.item(), "grad_norm": grad_norm.item()}
            message = "no update at step {:,}: its loss is {:g}, its gradient norm {:g}".format(step, *values.values())
            if (scale := self.step.loss_scale) is not None:
                message += f"; losses are multiplied by {scale:g} from here on"
                values["loss_scale"] = scale
            self.reporter.incident("skipped", message, step, **values)
            self.losses.note_skipped(step)
            return True
        self.losses.add(loss, grad_norm, step, self.step.has_targets)
        # On the CPU the loss is already known, so a bad update can be avoided. Elsewhere, reading it stalls the device.
        if self.device.type == "cpu" and self.losses.check():
            self.reporter.training(step, math.nan, None, **self._rates(), grad_norm=grad_norm.item())
            return False
        with self.rates.applied(counts.learning_rate):
            self.step.apply()
        self.rates.advance()
        self.average.add(tick)
        return True

    def _must_omit(self, loss: torch.Tensor, grad_norm: torch.Tensor) -> bool:
        """Return whether there is to be no update: it would not be finite, and that does not end the run.

        With loss scaling, gradients that are too large for float16 are usual (Micikevicius et al. 2018).
        """
        if self.config.on_non_finite == "skip":
            return not bool(torch.isfinite(loss + grad_norm))
        is_scaled = self.step.loss_scale is not None
        return is_scaled and bool(torch.isfinite(loss)) and not bool(torch.isfinite(grad_norm))

    def _advance_clock(self, began: float, passes: int, compiling: float) -> None:
        """Count a step in the clock, and share the time and received signals among all processes."""
        is_computed = self.device.type == "cpu"
        if not is_computed and self.clock.is_near_the_end():
            synchronize(self.device)
            is_computed = True
        self.clock.note_step(self.clock.elapsed() - began, passes, is_computed=is_computed)
        self.clock.share()
        if self.counts.step <= 2 and compiling:  # step 1 compiles the loss, step 2 the update; the warm-up starts after
            self.clock.begin_training(again=True)
        self.guard.share()
        self.clock.advance()

    def _wait_for_the_device(self) -> None:
        """Wait until the device has computed all queued steps, count the time as training, and check the losses."""
        began = self.clock.elapsed()
        synchronize(self.device)
        self.clock.note_step(self.clock.elapsed() - began, 0)
        self.losses.check()

    def _rates(self) -> dict[str, Any]:
        """Return the learning rates of the last step, and the norm of all parameters."""
        with torch.no_grad():
            norm = float(self.parallel.norm(self.task.model.parameters()).item())
        return {
            "learning_rate": self.counts.learning_rate,
            "group_rates": self.rates.of_groups,
            "factors": self.rates.factors,
            "parameter_norm": norm,
        }

    def _log(self, grad_norm: float) -> None:
        step, losses = self.counts.step, self.losses.take()
        scale = self.step.loss_scale
        self.reporter.training(
            step, losses.mean, losses.largest, **self._rates(), grad_norm=grad_norm, loss_scale=scale
        )
        if losses.is_spike:
            message = (
                f"spike: a loss of {losses.largest:.4f} in the steps up to {step:,}, where {losses.usual:.4f} is usual"
            )
            self.reporter.incident("spike", message, step, loss=losses.largest, usual_loss=losses.usual)

    def _log_the_rest(self) -> None:
        """Log the losses since the last record, if the time limit ended the run before the next was due."""
        if self.losses.count:
            self.losses.check()
            assert self.losses.grad_norm is not None
            self._log(self.losses.grad_norm)

    def _report_halving(self, message: str) -> None:
        size = self.step.micro_batch_size
        self.reporter.incident("halved", message, self.counts.step + 1, micro_batch_size=size)

    def _report_compile_failure(self, what: str, error: Exception) -> None:
        """Record that the run goes on without the compiler, or end it if `compile` is "on".

        Raises:
            CompilationError: If it ends.
        """
        path, reason = self.records.path / COMPILE_LOG, describe_failure(what, error)
        text = "".join(traceback.format_exception(error))
        self.processes.on_rank_0(lambda: write_atomically(path, text.encode("utf-8", errors="backslashreplace")))
        if self.config.compile == "auto":
            message = f"{reason}; the run goes on without it, more slowly. The whole message is in {path}"
            self.reporter.incident("compile_failed", message, self.counts.step + 1)
            return
        if self.counts.step == 0:
            # Without a checkpoint, another setting can be tried in this directory.
            self.processes.on_rank_0(self.store.remove_all)
        raise CompilationError(
            f"{reason}. The whole message is in {path}. Nothing is lost: run the same again when that is fixed, or go "
            'on without the compiler: compile="off"'
        ) from error

    def _finish_average(self) -> None:
        if self.average.finish():
            # The last evaluation, and perhaps the last checkpoint, used the weights before averaging.
            self.validator.forget_whole()
            self.saver.saved_step = None

    def _evaluate(self, *, whole: bool) -> None:
        step = self.counts.step
        if whole:
            self.saver.begin(step)
        self.validator.run(step, whole=whole, averaged_steps=self.average.steps if self.average.is_finished else 0)
        if self.validator.is_broken_off:
            assert self.guard.received is not None
            self._interrupt(self.guard.received)
        self.losses.note_evaluation(self.validator.loss, step)
        is_whole = self.validator.whole_step == step
        self.callbacks.call("on_evaluation", self._state(), self.validator.result, is_whole=is_whole)

    def _save(self, *, in_background: bool = False) -> None:
        self.saver.save(self.counts.step, in_background=in_background)
        self.callbacks.call("on_save", self._state(), self.store.path(self.counts.step))

    def _state(self, loss: torch.Tensor | None = None) -> RunState:
        """Return what callbacks get; the loss of the last step is known only right after it."""
        moment = self._moment()
        values = {name: moment[name] for name in ("step", "progress", "tokens", "seconds_total")}
        return RunState(**values, model=self.task.model, optimizer=self.parallel.optimizer, loss=loss)

    def _moment(self, step: int | None = None) -> dict[str, Any]:
        """Return the fields that all records share, for the last step or for `step`, which may be in progress."""
        step = self.counts.step if step is None else step
        return {
            "step": step,
            "progress": min(1.0, self.clock.tick / self.config.steps),
            "tokens": self.counts.windows_at(step) * self.config.context_length,
            "seconds_total": self.clock.elapsed(),
            "seconds_training": self.counts.seconds_training,
        }

    def _collect_state(self) -> CheckpointState:
        """Return the state of the run at this moment; all processes must call this together."""
        validator, step = self.validator, self.counts.step
        whole = self.parallel.gather(
            {
                "model": get_model_state(self.task.model),
                "optimizer": self.parallel.optimizer.state_dict(),
                "training": {name: part.state_dict() for name, part in self.parts.items()},
            }
        )
        whole["training"] |= collect_random_states(self.processes)
        return CheckpointState(
            step=step,
            valid_loss=validator.loss if validator.whole_step == step else None,
            seconds_training=self.counts.seconds_training,
            **whole,
        )

    def _interrupt(self, signal_name: str) -> NoReturn:
        if self.saver.saved_step != self.counts.step or self.validator.is_broken_off:
            self._save()
        self.saver.wait()
        self.reporter.export()
        raise TrainingInterrupted(self.records.path, self.counts.step, signal_name)

    def _finish(self) -> Summary:
        """Log, evaluate and save if the last step did not, then write the summary, which marks the run as finished."""
        step = self.counts.step
        if not self.losses.have_diverged:
            self._log_the_rest()
        if not self.losses.have_diverged:
            self._finish_average()
            if (absence := self.average.describe_absence()) is not None:
                self.reporter.notice(absence)
            is_evaluated = self.validator.whole_step == step
            if not is_evaluated:
                self._evaluate(whole=True)
            if not self.losses.have_diverged and not (is_evaluated and self.saver.saved_step == step):
                self._save()
        self.saver.wait()
        self.processes.on_rank_0(self.store.remove_leftovers)  # of the last save; no later one tries again
        self.reporter.sync()
        self.reporter.export()
        summary = self._summarize()
        self.records.write_json("summary.json", summary.to_json())
        loss = "none" if summary.final_valid_loss is None else f"{summary.final_valid_loss:.4f}"
        mean = f" of the mean of {self.average.steps:,} steps' weights" if self.average.is_finished else ""
        self.reporter.notice(f"{summary.status}: {step:,} steps, validation loss {loss}{mean}")
        self.loggers.on_finish(summary)
        self.callbacks.call("on_end", summary)
        return self.processes.on_rank_0(lambda: summary)

    def _summarize(self) -> Summary:
        losses, validator, counts = self.losses, self.validator, self.counts
        status: RunStatus = "completed" if self.clock.tick >= self.config.steps else "time_limit"
        if self.callbacks.have_stopped and status == "time_limit":
            status = "stopped"
        reason, final = losses.divergence, validator.loss
        if losses.have_diverged:
            status, final = "diverged", None
        elif self._is_worse_than_untrained(final):
            reason = f"the final validation loss {final:.4f} is above the first one, {validator.first_loss:.4f}"
        tokens = counts.windows * self.config.context_length
        tokens_per_second = tokens / counts.seconds_training if counts.seconds_training > 0 else None
        return Summary(
            status=status,
            diverged=reason is not None,
            diverged_at_step=losses.diverged_at_step,
            divergence=reason,
            steps=counts.step,
            tokens=tokens,
            parameters=count_parameters(self.task.model),
            final_valid_loss=final,
            best_valid_loss=validator.best_loss,
            perplexity=None if final is None else validator.perplexity,
            bits_per_byte=None if final is None else validator.bits_per_byte,
            seconds_total=self.clock.elapsed(),
            seconds_training=counts.seconds_training,
            tokens_per_second=tokens_per_second,
            mfu=self.task.speed.utilisation(tokens_per_second),
            peak_memory_bytes=peak_memory_bytes(self.device),
            spikes=losses.spikes,
            skipped_steps=losses.skipped_steps,
        )

    def _is_worse_than_untrained(self, final_loss: float | None) -> bool:
        """Return whether training has raised the validation loss, and not because the model has overfitted."""
        first, usual = self.validator.first_loss, self.losses.usual
        if final_loss is None or first is None or final_loss <= first:
            return False
        return usual is None or usual > first
