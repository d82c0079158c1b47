"""The trainer: checks its arguments, and prepares and ends the training loop."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.callbacks import describe_callbacks
from trainer.checkpoints import CheckpointStore, load_latest, load_weights, preserved_random_states, set_model_state
from trainer.config import TrainConfig
from trainer.data import BatchSource, TokenSource, TokenSplit, check_same_tokenizer, find_vocab_size
from trainer.devices import (
    Speed,
    device_name,
    fast_matrix_products,
    keep_freed_memory,
    peak_flops,
    release_freed_memory,
    resolve_dtype,
)
from trainer.distributed import Processes, joined_processes, parallelize, read_ranks, resolve_process_device
from trainer.evaluation import LossFunction
from trainer.interruption import SignalGuard, TrainingInterrupted
from trainer.loggers import ConsoleLogger, Logger, LoggerGroup
from trainer.records import Changes, RunDirectory, Summary, describe_changes, describe_run
from trainer.task import SampleFunction, Schedule, Task
from trainer.training import RunClock, TrainingLoop, check_schedules

_SHOWN_NAMES = 3


class Trainer:
    """Trains a model into a run directory, from which an interrupted run resumes.

    Args:
        model: Any module; it is moved to the device (parallel="fsdp" shards a copy instead).
        optimizer: Any optimizer over the model's parameters; `schedule` sets its learning rates.
        loss_fn: loss_fn(model, inputs, targets) -> scalar mean loss in nats per token; inputs and targets are
            (batch, time) int64. If some targets do not count: the sum of the losses, and the number of those that do.
        train_data: A token file, a one-dimensional array of ids, or a list of these, which no window crosses; or
            `Examples`, such as prompts with answers.
        valid_data: The same, for the evaluations.
        config: Settings of the loop.
        schedule: schedule(step) -> learning rate of that step, from 0; a group's `lr_scale` multiplies it. Or a torch
            LRScheduler of the optimizer, which the trainer steps after each update.
        run_dir: Directory for everything that is written.
        loggers: Receivers of the records besides `metrics.jsonl`; None for the console, [] for nobody.
        weight_decay_schedule: weight_decay_schedule(step) -> factor of each parameter group's own weight decay; None
            leaves that as it is.
        momentum_schedule: momentum_schedule(step) -> factor of the momentum of each parameter group that has one; None
            leaves that as it is.
        sample: sample(model, step) -> text or texts, kept in `samples.jsonl` at every evaluation.
        recorded: Further content of `config.json`, under "recorded"; plain JSON values.
        changeable: Names of recorded values that may change when the run resumes, such as "recipe.steps".
        callbacks: Objects that the run calls at its steps, evaluations, saves and end (`trainer.callbacks`).
        init_from: A run directory, a checkpoint, or a directory with a model.safetensors; a new run begins with its
            weights.
        flops_per_token: Operations of a forward and backward pass for one token, for the utilization in the records.
        seconds_before: Seconds before the construction that the time limit covers as well.
        seconds_of_earlier_sessions: Seconds that earlier sessions of this run have spent, if the caller knows more than
            the latest checkpoint, which does not know of the time between it and a kill.

    Raises:
        TypeError: If the data, the schedule or a callback are something else.
        ValueError: If the training data are shorter than one window or the validation data than two tokens, they are
            not integers or of two tokenizers, the device is not available, `recorded` is no plain JSON, or the
            optimizer has no parameter of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFunction,
        train_data: TokenSource,
        valid_data: TokenSource,
        config: TrainConfig,
        schedule: Schedule | LRScheduler,
        run_dir: str | os.PathLike[str],
        loggers: Sequence[Logger] | None = None,
        *,
        weight_decay_schedule: Schedule | None = None,
        momentum_schedule: Schedule | None = None,
        sample: SampleFunction | None = None,
        recorded: Mapping[str, Any] | None = None,
        changeable: Collection[str] = (),
        callbacks: Sequence[object] = (),
        init_from: str | os.PathLike[str] | None = None,
        flops_per_token: float | None = None,
        seconds_before: float = 0.0,
        seconds_of_earlier_sessions: float = 0.0,
    ) -> None:
        self._began: float | None = time.perf_counter()
        self._seconds_before = seconds_before
        self._seconds_of_earlier_sessions = seconds_of_earlier_sessions
        self._splits = TokenSplit(train_data, "the training split"), TokenSplit(valid_data, "the validation split")
        self._splits[0].check_length(config.context_length)
        self._splits[1].check_can_be_evaluated(config.context_length)
        check_same_tokenizer(self._splits)
        factor_schedules = {"weight_decay": weight_decay_schedule, "momentum": momentum_schedule}
        self._factor_schedules = {name: given for name, given in factor_schedules.items() if given is not None}
        check_schedules(schedule, self._factor_schedules, optimizer, config)
        check_parameters(model, optimizer)
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
        self._ranks = read_ranks()
        # Now, because it refuses windows that cannot be shared and a separator that does not occur.
        self._batches = BatchSource(self._splits[0], config, self._ranks.rank, self._ranks.world_size)
        self.device = resolve_process_device(config.device, self._ranks)
        self.dtype = resolve_dtype(config.dtype, self.device)
        peak = peak_flops(device_name(self.device), self.dtype)
        self.speed = Speed(flops_per_token, peak and peak * self._ranks.world_size)
        self._changeable = frozenset(f"recorded.{name}" for name in changeable)
        self._init_from = init_from
        self.callbacks = list(callbacks)
        functions = {
            "loss_fn": loss_fn,
            "schedule": schedule,
            **{f"{name}_schedule": given or _unchanged for name, given in factor_schedules.items()},
        }
        self.description = describe_run(config, model, optimizer, *self._splits, recorded or {}, functions)
        self.description["callbacks"] = describe_callbacks(self.callbacks)

    def fit(self) -> Summary:
        """Train to the end.

        An unfinished run resumes from its latest intact checkpoint, also with other settings of those that may change
        (`trainer.config.CHANGEABLE_SETTINGS`). A completed run goes on if it now has more steps or time, and one that
        has diverged or was stopped by a callback if anything has changed. Otherwise a finished run is only read, and
        the model gets the weights of its last intact checkpoint, or keeps its own with a warning if there is none. The
        caller's random states and signal handlers are left as they were.

        Raises:
            TypeError: If the loss function is none, or no checkpoint can hold the state of the optimizer or a callback.
            TrainingInterrupted: If a signal came, such as SIGINT or SIGTERM; everything is saved.
            ValueError: If the directory holds a run of another configuration or version or no intact checkpoint, the
                data have ids that the model cannot read, the loss is neither a scalar nor a sum and a number, a rate is
                not finite or negative, the time limit is too short, or the compiler fails or is wrong with
                compile="on".
            torch.OutOfMemoryError: If there is no memory, and the micro-batch must not or cannot be halved.
            RunLockedError: If another process uses the run directory.
            ProcessLostError: If one of several processes died or did not answer; the others end.
            OSError: If the run directory cannot be written.
        """
        with joined_processes(self._ranks, self.device, self.config.distributed_timeout_seconds) as processes:
            records = RunDirectory(self.run_dir, writes=processes.is_rank_0)
            store = CheckpointStore(
                records.checkpoints, self.config.keep_checkpoints, self.config.keep_checkpoint_every_seconds
            )
            if (summary := self._read_finished(records, store, processes)) is not None:
                return summary
            if not callable(self.loss_fn) or isinstance(self.loss_fn, type):
                raise TypeError(
                    f"loss_fn is {self.loss_fn!r}: expected a function of the model, the inputs and the targets"
                )
            processes.on_rank_0(lambda: self._check_ids(store))
            group = LoggerGroup(self.loggers if processes.is_rank_0 else ())
            interruption: TrainingInterrupted | None = None
            processes.on_rank_0(records.acquire)
            try:
                with ExitStack() as stack:
                    stack.callback(records.release)
                    stack.callback(group.close)
                    # Once more under the lock: another run may have trained and finished in between.
                    summary = self._read_finished(records, store, processes)
                    if summary is None:
                        summary = self._train(records, store, group, processes)
            except TrainingInterrupted as caught:
                interruption = caught
            processes.wait()  # as soon as one process ends, torchrun may end the others
            if interruption is not None:
                raise interruption
            assert summary is not None
            return summary

    def _train(
        self, records: RunDirectory, store: CheckpointStore, group: LoggerGroup, processes: Processes
    ) -> Summary:
        with ExitStack() as stack:
            guard = stack.enter_context(SignalGuard(processes))
            stack.enter_context(preserved_random_states())
            stack.enter_context(fast_matrix_products(self.device, self.dtype))
            if self.device.type == "cpu" and keep_freed_memory():
                stack.callback(release_freed_memory)
            if self._init_from is not None and processes.on_rank_0(store.is_empty):
                load_weights(self.model, self._init_from)
            parallel = parallelize(self.model, self.optimizer, self.config.parallel, processes, self.device)
            stack.callback(parallel.close)
            try:
                task = Task(
                    parallel=parallel,
                    loss_fn=self.loss_fn,
                    batches=self._batches,
                    valid_data=self._splits[1],
                    config=self.config,
                    schedule=self.schedule,
                    factor_schedules=self._factor_schedules,
                    sample=self.sample,
                    callbacks=self.callbacks,
                    device=self.device,
                    dtype=self.dtype,
                    speed=self.speed,
                    description=self.description,
                )
                changes = processes.on_rank_0(lambda: records.compare_config(self.description, self._changeable))
                clock = self._start_clock(processes)
                summary = TrainingLoop(task, records, store, group, guard, clock, changes).train()
            except TrainingInterrupted:
                parallel.finish()
                raise
            parallel.finish()
            return summary

    def _read_finished(self, records: RunDirectory, store: CheckpointStore, processes: Processes) -> Summary | None:
        """Return the summary of a finished run, whose weights the model gets; None if there is something to train."""

        def read() -> tuple[Summary | None, str]:
            changes = records.compare_config(self.description, self._changeable)
            summary = records.read_summary()
            if summary is None or _goes_on(summary, self.config, changes):
                return None, ""
            return summary, _describe_finished(self.run_dir, summary, changes, store)

        summary, message = processes.on_rank_0(read)
        if summary is None:
            return None
        if processes.is_rank_0:
            for logger in self.loggers:  # others have a run in their own records
                if isinstance(logger, ConsoleLogger):
                    logger.log({"event": "notice", "step": summary.steps, "message": message})
        try:
            content, reason = load_latest(store, processes, set_aside=False), "there is no checkpoint"
        except ValueError as error:
            content, reason = None, str(error)
        if content is not None:
            set_model_state(self.model, content.model, str(content.path))
        elif summary.steps > 0 and processes.is_rank_0:
            warnings.warn(
                f"the run in {self.run_dir} is finished and its summary is returned, but the model's weights are as "
                f"they were: {reason}; restore one if you need them, or train in another run directory",
                RuntimeWarning,
                stacklevel=3,
            )
        return summary

    def _check_ids(self, store: CheckpointStore) -> None:
        """Check before the first step of a run that the model knows all ids of the data, if its vocabulary is known."""
        vocab_size = self.config.vocab_size or find_vocab_size(self.model)
        if vocab_size is None or not store.is_empty():
            return
        for split in self._splits:
            split.check_ids(vocab_size)

    def _start_clock(self, processes: Processes) -> RunClock:
        """Return the clock of this session; the time since the construction counts in the first one only."""
        began, before = self._began, self._seconds_before
        self._began, self._seconds_before = None, 0.0
        return RunClock(
            self.config,
            processes,
            began=began,
            seconds_before=before,
            earlier=self._seconds_of_earlier_sessions,
        )


def check_parameters(model: nn.Module, optimizer: Optimizer) -> None:
    """Check that the optimizer updates the model; trainable parameters that it lacks cause a warning.

    Raises:
        ValueError: If it has no trainable parameter of the model.
    """
    updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    lacking = [name for name, parameter in trainable if id(parameter) not in updated]
    if trainable and len(lacking) == len(trainable):
        raise ValueError(
            "the optimizer has no trainable parameter of the model: expected one made of this model's parameters, not "
            "of a copy"
        )
    if lacking:
        shown = ", ".join(lacking[:_SHOWN_NAMES]) + (", …" if len(lacking) > _SHOWN_NAMES else "")
        warnings.warn(
            f"the optimizer lacks {len(lacking):,} of the {len(trainable):,} trainable parameters ({shown}), which "
            "stay as they are; call requires_grad_(False) on them if that is meant",
            RuntimeWarning,
            stacklevel=3,
        )


def _unchanged(step: int) -> float:
    """Factor of a setting without a schedule, for the records."""
    return 1.0


def _goes_on(summary: Summary, config: TrainConfig, changes: Changes) -> bool:
    """Return whether a finished run has something left to train with the present configuration."""
    if summary.status in ("diverged", "stopped"):
        return bool(changes)
    before, now = changes.get("time_limit_seconds", (None, None))
    has_more_time = before is not None and (now is None or now > before)
    if config.clock == "time" or summary.status == "time_limit":
        return has_more_time
    return config.steps > summary.steps


def _describe_finished(run_dir: Path, summary: Summary, changes: Changes, store: CheckpointStore) -> str:
    """Return why nothing is trained, and what to do."""
    if summary.status == "diverged":
        latest = store.latest()
        start = "anew" if latest is None else f"from step {int(latest.name.removeprefix('step_')):,}"
        return (
            f"the run in {run_dir} has diverged ({summary.divergence}), and nothing has changed since; with a change, "
            f'such as lower learning rates or on_non_finite="skip", it goes on {start}'
        )
    edited = f", also not with what has changed: {describe_changes(changes)}" if changes else ""
    return (
        f"the run in {run_dir} was finished before ({summary.status} at step {summary.steps:,}): it is read, and "
        f"nothing is trained{edited}; for more training, give more steps or time, or choose another run directory"
    )
