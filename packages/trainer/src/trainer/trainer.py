"""The trainer: checks its arguments, and prepares and ends the training loop."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints import CheckpointStore, load_latest, preserved_random_states, set_model_state
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
from trainer.records import RunDirectory, Summary, describe_run
from trainer.task import SampleFunction, Schedule, Task
from trainer.training import RunClock, TrainingLoop


class Trainer:
    """Trains a model into a run directory, from which an interrupted run resumes.

    Args:
        model: Any module; it is moved to the device (parallel="fsdp" shards a copy instead).
        optimizer: Any optimizer over the model's parameters; `schedule` sets its learning rates.
        loss_fn: loss_fn(model, inputs, targets) -> scalar mean loss in nats per token; inputs and targets are
            (batch, time) int64.
        train_data: A token file, a one-dimensional array of ids, or a list of these, which no window crosses.
        valid_data: The same, for the evaluations.
        config: Settings of the loop.
        schedule: schedule(step) -> learning rate of that step, from 0; a group's `lr_scale` multiplies it.
        run_dir: Directory for everything that is written.
        loggers: Receivers of the records besides `metrics.jsonl`; None for the console, [] for nobody.
        sample: sample(model, step) -> text or texts, kept in `samples.jsonl` at every evaluation.
        recorded: Further content of `config.json`, under "recorded"; plain JSON values.
        flops_per_token: Operations of a forward and backward pass for one token, for the utilization in the records.
        seconds_before: Seconds before the construction that the time limit covers as well.
        seconds_of_earlier_sessions: Seconds that earlier sessions of this run have spent, if the caller knows more than
            the latest checkpoint, which does not know of the time between it and a kill.

    Raises:
        TypeError: If the data are something else.
        ValueError: If the data are shorter than one window, not integers or of two tokenizers, the device is not
            available, or `recorded` is no plain JSON.
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
        flops_per_token: float | None = None,
        seconds_before: float = 0.0,
        seconds_of_earlier_sessions: float = 0.0,
    ) -> None:
        self._began: float | None = time.perf_counter()
        self._seconds_before = seconds_before
        self._seconds_of_earlier_sessions = seconds_of_earlier_sessions
        self._splits = TokenSplit(train_data, "the training split"), TokenSplit(valid_data, "the validation split")
        for split in self._splits:
            split.check_length(config.context_length)
        check_same_tokenizer(self._splits)
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
        BatchSource(self._splits[0], config, self._ranks.rank, self._ranks.world_size)  # refuses what cannot be shared
        self.device = resolve_process_device(config.device, self._ranks)
        self.dtype = resolve_dtype(config.dtype, self.device)
        peak = peak_flops(device_name(self.device), self.dtype)
        self.speed = Speed(flops_per_token, peak and peak * self._ranks.world_size)
        self.description = describe_run(config, model, optimizer, *self._splits, recorded or {})

    def fit(self) -> Summary:
        """Train to the end.

        A finished run is only read, and the model gets the weights of its last intact checkpoint, or keeps its own with
        a warning if there is none. An unfinished run resumes from its latest intact checkpoint. The caller's random
        states and signal handlers are left as they were.

        Raises:
            TrainingInterrupted: If SIGINT or SIGTERM came; everything is saved.
            ValueError: If the directory holds a run of another configuration or version or no intact checkpoint, the
                data have ids that the model cannot read, the loss is no scalar, a rate is not finite or negative, or
                the time limit is too short.
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
            parallel = parallelize(self.model, self.optimizer, self.config.parallel, processes, self.device)
            stack.callback(parallel.close)
            try:
                task = Task(
                    parallel=parallel,
                    loss_fn=self.loss_fn,
                    train_data=self._splits[0],
                    valid_data=self._splits[1],
                    config=self.config,
                    schedule=self.schedule,
                    sample=self.sample,
                    device=self.device,
                    dtype=self.dtype,
                    speed=self.speed,
                    description=self.description,
                )
                summary = TrainingLoop(task, records, store, group, guard, self._start_clock(processes)).train()
            except TrainingInterrupted:
                parallel.finish()
                raise
            parallel.finish()
            return summary

    def _read_finished(self, records: RunDirectory, store: CheckpointStore, processes: Processes) -> Summary | None:
        def read() -> Summary | None:
            records.match_config(self.description)
            return records.read_summary()

        summary = processes.on_rank_0(read)
        if summary is None:
            return None
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
