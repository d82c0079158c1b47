"""The training loop."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from trainer import devices
from trainer.checkpoints import CheckpointDirectory, restore
from trainer.config import TrainConfig
from trainer.data import TokenDataset, check_length, training_batch
from trainer.evaluation import Evaluation, LossFunction, evaluate
from trainer.interruption import StopRequest, TrainingInterrupted, stop_on_signals
from trainer.loggers import Logger
from trainer.loggers.console import ConsoleLogger
from trainer.plots import draw_losses
from trainer.records import JsonLines, RunDirectory
from trainer.summary import Status, Summary

Data = TokenDataset | NDArray[np.integer]
Sample = Callable[[nn.Module, int], str]

RESERVE_FACTOR = 1.3  # the final evaluation may take so many times what the slowest one took
RESERVE_SECONDS = 2.0  # for the records and the picture after it


@dataclass
class Progress:
    """What a run has done so far: everything that a checkpoint must bring back beside weights and generators."""

    step: int = 0
    tokens: int = 0
    seconds_total: float = 0.0
    seconds_training: float = 0.0
    initial_valid_loss: float | None = None
    best_valid_loss: float | None = None
    valid_loss: float | None = None
    evaluations: int = 0
    slowest_evaluation_seconds: float = 0.0
    slowest_save_seconds: float = 0.0
    metrics_bytes: int = 0
    samples_bytes: int = 0


class Trainer:
    """Trains any module with any optimizer on token files.

    Args:
        model: moved to the device.
        optimizer: made for the model's parameters; groups may have an "lr_scale" that multiplies the schedule's rate.
        loss_fn: (model, inputs, targets) -> scalar mean loss in nats per token; inputs and targets (batch, time) int64.
        train_data: a `TokenDataset` or an array of token ids.
        valid_data: the same; all of it is evaluated.
        config: everything else that decides the run.
        schedule: step -> learning rate, steps counted from 0.
        run_dir: where the records go; an unfinished run in it goes on, a finished one is only read.
        loggers: get every record; None prints to the console, an empty list is silent; `metrics.jsonl` is always there.
        sample: (model, step) -> text that the model makes, for `samples.jsonl`.
        recorded: further settings to keep in `config.json`; a run goes on only with the same ones.
        seconds_before: seconds of the time limit that this process has used up already.

    Raises:
        ValueError: data too short, token ids that the model cannot have, or a run directory of another configuration.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFunction,
        train_data: Data,
        valid_data: Data,
        config: TrainConfig,
        schedule: Callable[[int], float],
        run_dir: str | Path,
        loggers: Sequence[Logger] | None = None,
        *,
        sample: Sample | None = None,
        recorded: Mapping[str, Any] | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self._started = time.perf_counter() - seconds_before
        self.config = config
        self.device = devices.resolve_device(config.device)
        self.dtype = devices.resolve_dtype(config.dtype, self.device)
        self.model = model.to(self.device)
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.schedule = schedule
        self.train_tokens, _ = _tokens(train_data)
        self.valid_tokens, self.valid_bytes = _tokens(valid_data)
        check_length(self.train_tokens, config.context_length, "the training text")
        check_length(self.valid_tokens, config.context_length, "the validation text")
        self.directory = RunDirectory(Path(run_dir))
        self.checkpoints = CheckpointDirectory(self.directory.path / "checkpoints", config.keep_checkpoints)
        self.loggers = [ConsoleLogger(config.steps)] if loggers is None else list(loggers)
        self.sample = sample
        self.recorded = {"trainer": config.to_dict(), "recorded": dict(recorded or {})}
        self.directory.check_config(self.recorded)
        self._failed_loggers: set[int] = set()

    def fit(self) -> Summary:
        """Train to the end, from the beginning or from the last checkpoint.

        Raises:
            TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
            ValueError: the time limit is used up before the first step.
            OSError: the run directory cannot be written, or another process trains in it.
        """
        if (summary := self.directory.summary()) is not None:
            return summary
        limit = self.config.time_limit_seconds
        if limit is not None and self._elapsed() >= limit and not self.checkpoints.steps():
            raise ValueError(f"the time limit of {limit:g} s is used up before the first step: give more time")
        with self.directory.locked(), stop_on_signals() as stop:
            self.directory.begin(self.recorded, self.device, self.config.seed)
            self.progress = Progress()
            self._resume()
            self._metrics = JsonLines(self.directory.metrics_path)
            self._samples = JsonLines(self.directory.samples_path)
            try:
                return self._train(stop)
            finally:
                self._metrics.close()
                self._samples.close()
                for logger in self.loggers:
                    self._tell(logger, lambda logger: logger.close())

    def _train(self, stop: StopRequest) -> Summary:
        devices.allow_fast_products(self.device)
        compute = devices.compiled(self.loss_fn, self.config.compile, self.device)
        if self.progress.evaluations == 0:
            self._evaluate()
            self._save()
        saved_at = logged_at = time.perf_counter()
        logged_tokens = self.progress.tokens
        self.model.train()
        before = self._tick()
        while (status := self._status()) is None:
            rate = self.schedule(self._tick())
            begin = time.perf_counter()
            loss, norm = self._step(compute, rate)
            self.progress.step += 1
            self.progress.tokens += (
                self.config.batch_size * self.config.grad_accumulation_steps * self.config.context_length
            )
            # Asking a GPU for a number waits for it, so there it is only done when the number is due anyway.
            after = self._tick()
            due_log = self._due(before, after, self.config.log_interval)
            due_eval = self._due(before, after, self.config.eval_interval)
            if self.device.type == "cpu" or due_log or due_eval:
                finite = math.isfinite(float(loss)) and math.isfinite(float(norm))
            else:
                finite = True
            self.progress.seconds_training += time.perf_counter() - begin
            if not finite:
                return self._finish("diverged")
            if due_log:
                now = time.perf_counter()
                speed = (self.progress.tokens - logged_tokens) / (now - logged_at)
                self._log_training(float(loss), float(norm), rate, speed)
                logged_at, logged_tokens = now, self.progress.tokens
            if due_eval and self.progress.step < self.config.steps:
                self._evaluate()
                logged_at, logged_tokens = time.perf_counter(), self.progress.tokens
            seconds = time.perf_counter() - saved_at
            if stop.requested or self._due_save(before, after, due_eval, seconds):
                self._save()
                saved_at = time.perf_counter()
            if stop.requested:
                raise TrainingInterrupted(self.directory.path, self.progress.step)
            before = after
        return self._finish(status)

    def _step(self, compute: Callable[..., torch.Tensor], rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One update; returns the mean loss and the norm of the gradient before clipping."""
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for micro_batch in range(config.grad_accumulation_steps):
            inputs, targets = training_batch(
                self.train_tokens,
                config.batch_size,
                config.context_length,
                self.device,
                seed=config.seed,
                step=self.progress.step,
                micro_batch=micro_batch,
            )
            with devices.autocast(self.device, self.dtype):
                loss = compute(self.model, inputs, targets) / config.grad_accumulation_steps
            loss.backward()
            total += loss.detach()
        bound = math.inf if config.max_grad_norm is None else config.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), bound)
        # On a CPU the numbers are at hand, and an update that would ruin the weights is left out.
        if self.device.type != "cpu" or (torch.isfinite(total) and torch.isfinite(norm)):
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            self.optimizer.step()
        return total, norm

    def _evaluate(self) -> Evaluation:
        """Evaluate the validation text, record it, and sample if one is due."""
        begin = time.perf_counter()
        result = evaluate(
            self.model,
            self.valid_tokens,
            self.config.context_length,
            batch_size=self.config.eval_batch_size,
            loss_fn=self.loss_fn,
            num_bytes=self.valid_bytes,
            device=self.device,
            dtype=self.dtype,
        )
        loss = result.loss if math.isfinite(result.loss) else None
        progress = self.progress
        progress.valid_loss = loss
        if progress.evaluations == 0:
            progress.initial_valid_loss = loss
        if loss is not None and (progress.best_valid_loss is None or loss < progress.best_valid_loss):
            progress.best_valid_loss = loss
        progress.evaluations += 1
        self._record(
            {
                "event": "eval",
                "loss": loss,
                "perplexity": _finite(result.perplexity),
                "bits_per_byte": None if result.bits_per_byte is None else _finite(result.bits_per_byte),
            }
        )
        every = self.config.sample_interval
        if every is not None and progress.evaluations % every == 0:
            self._write_sample()
        progress.slowest_evaluation_seconds = max(progress.slowest_evaluation_seconds, time.perf_counter() - begin)
        return result

    def _finish(self, status: Status) -> Summary:
        """Evaluate and save a last time, and write what a complete run has."""
        progress, last = self.progress, None
        at = progress.step if status == "diverged" else None
        if status == "diverged":
            self._record({"event": "diverged", "loss": None})
        else:
            last = self._evaluate()
            self._write_sample()
            self._save()
        final = None if last is None else progress.valid_loss
        initial = progress.initial_valid_loss
        summary = Summary(
            status=status,
            diverged=final is None or (initial is not None and final > initial),
            diverged_at_step=at,
            steps=progress.step,
            tokens=progress.tokens,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            final_valid_loss=final,
            best_valid_loss=progress.best_valid_loss,
            initial_valid_loss=initial,
            perplexity=None if last is None else _finite(last.perplexity),
            bits_per_byte=None if last is None or last.bits_per_byte is None else _finite(last.bits_per_byte),
            seconds_total=self._elapsed(),
            seconds_training=progress.seconds_training,
            tokens_per_second=progress.tokens / progress.seconds_training if progress.seconds_training else None,
        )
        self.directory.write_csv()
        if not draw_losses(self.directory.metrics_path, self.directory.path / "loss.png"):
            warnings.warn("matplotlib is not installed, so there is no loss.png", stacklevel=2)
        self.directory.finish(summary)
        return summary

    def _elapsed(self) -> float:
        """Seconds of the run, over all resumes."""
        return time.perf_counter() - self._started

    def _budget(self) -> float:
        """Seconds that may pass before the final evaluation begins."""
        if self.config.time_limit_seconds is None:
            return math.inf
        progress = self.progress
        measured = progress.slowest_evaluation_seconds + progress.slowest_save_seconds
        return self.config.time_limit_seconds - RESERVE_FACTOR * measured - RESERVE_SECONDS

    def _tick(self) -> int:
        """Where the schedule stands: the step, or the share of the time that is used in steps."""
        if self.config.clock == "steps":
            return self.progress.step
        share = self._elapsed() / self._budget() if self._budget() > 0 else 1.0
        return min(self.config.steps - 1, int(self.config.steps * share))

    def _status(self) -> Status | None:
        """Why training ends now; None if it goes on."""
        if self.config.clock == "steps" and self.progress.step >= self.config.steps:
            return "completed"
        typical = self.progress.seconds_training / self.progress.step if self.progress.step else 0.0
        return "time_limit" if self._elapsed() + typical >= self._budget() else None

    @staticmethod
    def _due(before: int, after: int, interval: int) -> bool:
        """Whether a multiple of the interval lies between two places of the schedule."""
        return after // interval > before // interval

    def _due_save(self, before: int, after: int, due_eval: bool, seconds: float) -> bool:
        config = self.config
        if config.checkpoint_seconds is not None and seconds >= config.checkpoint_seconds:
            return True
        if config.checkpoint_interval is None:
            return due_eval
        return self._due(before, after, config.checkpoint_interval)

    def _log_training(self, loss: float, norm: float, rate: float, tokens_per_second: float) -> None:
        share = self._share()
        left = None
        if share > 0:
            left = (
                self._elapsed() * (1 - share) / share
                if self.config.clock == "steps"
                else self._budget() - self._elapsed()
            )
        self._record(
            {
                "event": "train",
                "loss": loss,
                "lr": rate,
                "grad_norm": norm,
                "tokens_per_second": tokens_per_second,
                "memory_bytes": devices.memory_bytes(self.device),
                "seconds_left": left,
            }
        )

    def _share(self) -> float:
        if self.config.clock == "steps":
            return self.progress.step / self.config.steps
        return min(1.0, max(0.0, self._elapsed() / max(self._budget(), 1e-9)))

    def _record(self, record: dict[str, Any]) -> None:
        """Write one record to metrics.jsonl and hand it to the loggers."""
        progress = self.progress
        full = {
            "event": record.pop("event"),
            "step": progress.step,
            "progress": self._share(),
            "tokens": progress.tokens,
            "seconds_total": self._elapsed(),
            "seconds_training": progress.seconds_training,
            **record,
        }
        self._metrics.write(full)
        for logger in self.loggers:
            self._tell(logger, lambda logger: logger.log(full))

    def _tell(self, logger: Logger, what: Callable[[Logger], None]) -> None:
        """Use a logger; one that fails is warned about once and not used again."""
        if id(logger) in self._failed_loggers:
            return
        try:
            what(logger)
        except Exception as error:
            self._failed_loggers.add(id(logger))
            warnings.warn(
                f"{type(logger).__name__} failed and is not used any more, training goes on: {error}", stacklevel=2
            )

    def _write_sample(self) -> None:
        if self.sample is not None:
            state = devices.random_state(self.device)  # sampling must not change what training draws
            self._samples.write({"step": self.progress.step, "text": self.sample(self.model, self.progress.step)})
            devices.set_random_state(state, self.device)

    def _save(self) -> None:
        """Write a checkpoint of everything that a resumed run needs to go on as if nothing had happened."""
        begin = time.perf_counter()
        progress = self.progress
        progress.metrics_bytes, progress.samples_bytes = self._metrics.sync(), self._samples.sync()
        progress.seconds_total = self._elapsed()
        state = {
            "optimizer": self.optimizer.state_dict(),
            "random": devices.random_state(self.device),
            "progress": vars(progress),
        }
        self.checkpoints.save(
            progress.step, self.model, state, {"valid_loss": progress.valid_loss, "tokens": progress.tokens}
        )
        progress.slowest_save_seconds = max(progress.slowest_save_seconds, time.perf_counter() - begin)

    def _resume(self) -> None:
        """Take up the newest sound checkpoint, if there is one; drop what was recorded after it."""
        found = self.checkpoints.load()
        if found is not None:
            weights, state, _ = found
            restore(self.model, weights)
            self.optimizer.load_state_dict(state["optimizer"])
            devices.set_random_state(state["random"], self.device)
            self.progress = Progress(**state["progress"])
            self._started -= self.progress.seconds_total
        self.directory.truncate(self.progress.metrics_bytes, self.progress.samples_bytes)


def _tokens(data: Data) -> tuple[NDArray[np.integer], int | None]:
    return (data.tokens, data.num_bytes) if isinstance(data, TokenDataset) else (data, None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
