"""The trainer: what it is given, and what a call of `fit` does around the session of a run."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints.random_states import preserved_random_states
from trainer.checkpoints.restore import load_latest
from trainer.checkpoints.single_file import CheckpointStore
from trainer.checkpoints.state_dicts import set_model_state
from trainer.config import TrainConfig
from trainer.data.batches import BatchSource
from trainer.data.splits import TokenSource, TokenSplit, check_same_tokenizer
from trainer.data.vocabulary import find_vocab_size
from trainer.devices.devices import device_name, fast_matrix_products, resolve_dtype
from trainer.devices.flops import Speed, peak_flops
from trainer.devices.host_memory import keep_freed_memory, release_freed_memory
from trainer.distributed.parallel import Parallel, parallelize
from trainer.distributed.processes import Processes, joined_processes
from trainer.distributed.rank import find_place, resolve_process_device
from trainer.evaluation import LossFunction
from trainer.interruption import SignalGuard, TrainingInterrupted
from trainer.loggers import ConsoleLogger, Logger, LoggerGroup
from trainer.records.description import describe_run
from trainer.records.run_directory import RunDirectory
from trainer.records.silence import SilentRunDirectory
from trainer.records.summary import Summary
from trainer.support.closing import closing_all
from trainer.task import Task
from trainer.training.loop import Session
from trainer.training.step import Schedule
from trainer.training.validation import SampleFunction


class Trainer:
    """Trains a model into a run directory, from which an interrupted run goes on where it was.

    Args:
        model: any module; it is moved to the device (but not by parallel="fsdp", which divides a copy).
        optimizer: any optimizer over the model's parameters; its learning rates are set by `schedule`.
        loss_fn: loss_fn(model, inputs, targets) -> scalar mean loss in nats per token; inputs and targets are
            (batch, time) int64.
        train_data: a token file, a one-dimensional array of ids, or a list of those, which no window crosses.
        valid_data: the same, for the evaluations.
        config: the settings of the loop.
        schedule: schedule(step) -> learning rate of that step, from 0; a group's `lr_scale` multiplies it.
        run_dir: where everything is written.
        loggers: who gets the records besides `metrics.jsonl`; None is the console, [] nobody.
        sample: sample(model, step) -> text or texts, kept in `samples.jsonl` at every evaluation.
        recorded: what else `config.json` shall say under "recorded"; plain JSON values.
        flops_per_token: operations of a forward and backward pass for one token, for the utilisation in the records.
        seconds_before: seconds that the time limit shall count besides those since the construction.
        seconds_of_earlier_sessions: what earlier sessions of this run have spent, if somebody knows more than the
            latest checkpoint, which knows nothing of the time between it and a kill.

    Raises:
        TypeError: the data are something else.
        ValueError: the data are shorter than one window, not integers or of two tokenizers, the device is not there, or
            `recorded` is no plain JSON.
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
        self._place = find_place()
        BatchSource(self._splits[0], config, self._place.rank, self._place.world_size)  # refuses what cannot be shared
        self.device = resolve_process_device(config.device, self._place)
        self.dtype = resolve_dtype(config.dtype, self.device)
        peak = peak_flops(device_name(self.device), self.dtype)
        self.speed = Speed(flops_per_token, peak and peak * self._place.world_size)
        self.description = describe_run(config, model, optimizer, *self._splits, recorded or {})

    def fit(self) -> Summary:
        """Train to the end.

        A finished run is only read, and the model gets the weights of its last intact checkpoint, or with a warning
        keeps its own if there is none; an unfinished run goes on from its latest intact one. The caller's random states
        and signal handlers are left as they were.

        Raises:
            TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
            ValueError: the directory holds a run of another configuration or no intact checkpoint, the data have ids
                that the model cannot read, the loss is no scalar, a rate is not finite or negative, or the time limit
                is too short.
            torch.OutOfMemoryError: there is no memory, and the micro batch must not or cannot be halved.
            RunLockedError: another process is at it.
            ProcessLostError: one of several processes died or did not answer; the others end.
            OSError: the run directory cannot be written.
        """
        with joined_processes(self._place, self.device, self.config.distributed_timeout_seconds) as processes:
            records = RunDirectory(self.run_dir) if processes.is_writer else SilentRunDirectory(self.run_dir)
            store = CheckpointStore(
                records.checkpoints, self.config.keep_checkpoints, self.config.keep_checkpoint_every_seconds
            )
            if (summary := self._read_finished(records, store, processes)) is not None:
                return summary
            processes.from_writer(lambda: self._check_ids(store))
            group = LoggerGroup(self.loggers if processes.is_writer else ())
            interruption: TrainingInterrupted | None = None
            processes.from_writer(records.acquire)
            try:
                with closing_all(group.close, records.release):
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
        precision = fast_matrix_products(self.device, self.dtype)
        keeps_memory = self.device.type == "cpu" and keep_freed_memory()
        with SignalGuard(processes) as guard, preserved_random_states(), precision:
            parallel = parallelize(self.model, self.optimizer, self.config.parallel, processes, self.device)
            with closing_all(parallel.close, *([release_freed_memory] if keeps_memory else [])):
                try:
                    summary = Session(self._task(parallel), records, store, group, guard, self._take_seconds()).train()
                except TrainingInterrupted:
                    with closing_all(parallel.finish):
                        raise
                parallel.finish()
            return summary

    def _read_finished(self, records: RunDirectory, store: CheckpointStore, processes: Processes) -> Summary | None:
        def read() -> Summary | None:
            records.match_config(self.description)
            return records.read_summary()

        summary = processes.from_writer(read)
        if summary is None:
            return None
        try:
            content, reason = load_latest(store, processes, set_aside=False), "there is no checkpoint"
        except ValueError as error:
            content, reason = None, str(error)
        if content is not None:
            set_model_state(self.model, content.model, str(content.path))
        elif summary.steps > 0 and processes.is_writer:
            warnings.warn(
                f"the run in {self.run_dir} is finished and its summary is returned, but the model's weights are as "
                f"they were: {reason}; restore one if you need them, or train in another run directory",
                RuntimeWarning,
                stacklevel=3,
            )
        return summary

    def _check_ids(self, store: CheckpointStore) -> None:
        """Check before the first step of a run that the model can read the data, if its vocabulary is known."""
        vocab_size = self.config.vocab_size or find_vocab_size(self.model)
        if vocab_size is None or not store.is_empty():
            return
        for split in self._splits:
            split.check_ids(vocab_size)

    def _task(self, parallel: Parallel) -> Task:
        return Task(
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

    def _take_seconds(self) -> tuple[float, float, float]:
        """When the clock of this session began, what to add to it, which both count only once, and the earlier ones."""
        began, before = self._began, self._seconds_before
        self._began, self._seconds_before = None, 0.0
        return (time.perf_counter() if began is None else began), before, self._seconds_of_earlier_sessions
