"""What a run tells: records, samples and notices, to its files and to the loggers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from trainer.devices.devices import peak_memory_bytes
from trainer.evaluation import Evaluation
from trainer.loggers import JsonlLogger, LoggerGroup, RunInfo
from trainer.records.plots import draw_losses
from trainer.records.run_directory import RunDirectory, read_metrics
from trainer.records.summary import Summary
from trainer.support.closing import closing_all
from trainer.training.clock import RunClock
from trainer.training.progress import Progress

if TYPE_CHECKING:
    from trainer.task import Task


class Reporter:
    """Writes the records of a run; the files are cut back to the checkpoint that the run resumes from."""

    def __init__(
        self,
        records: RunDirectory,
        loggers: LoggerGroup,
        task: Task,
        progress: Progress,
        clock: RunClock,
        *,
        resumes: bool,
    ) -> None:
        self._records = records
        self._loggers = loggers
        self._task = task
        self._config = task.config
        self._progress = progress
        self._clock = clock
        self._can_draw = not records.is_silent
        last_step = progress.step if resumes else -1
        self._metrics: JsonlLogger = records.open_lines("metrics.jsonl", last_step, progress.metrics_lines)
        self._samples: JsonlLogger = records.open_lines("samples.jsonl", last_step, progress.samples_lines)

    def start(self, run: RunInfo) -> None:
        """Tell the loggers what run this is, before the first record."""
        self._loggers.on_start(run)

    def finish(self, summary: Summary) -> None:
        """Tell the loggers that the run is complete."""
        self._loggers.on_finish(summary)

    def training(self, step: int, loss: float, loss_max: float | None, learning_rate: float, grad_norm: float) -> None:
        """Report what came since the last such report.

        Args:
            step: optimizer steps made.
            loss: mean of the steps' losses.
            loss_max: the largest of them.
            learning_rate: of the last step; the groups' own are recorded if they differ.
            grad_norm: of the last step, before clipping.
        """
        progress = self._progress
        seconds = progress.seconds_training - progress.reported_seconds
        windows = progress.windows_at(step)
        tokens = (windows - progress.reported_windows) * self._config.context_length
        tokens_per_second = tokens / seconds if seconds > 0 else None
        record = self._record("train", step) | {
            "loss": loss,
            "loss_max": loss_max,
            "lr": learning_rate,
            "grad_norm": grad_norm,
            "parameter_norm": self._parameter_norm(),
            "tokens_per_second": tokens_per_second,
            "mfu": self._task.speed.utilisation(tokens_per_second),
            "memory_bytes": peak_memory_bytes(self._task.device),
        }
        group_rates = [float(group["lr"]) for group in self._task.optimizer.param_groups]
        if any(rate != learning_rate for rate in group_rates):
            record["group_lrs"] = group_rates
        progress.reported_windows, progress.reported_seconds = windows, progress.seconds_training
        self._write(record)

    def incident(self, event: str, message: str, step: int, **values: float | None) -> None:
        """Report a spike, a skipped step or smaller micro batches: a record of its own, and a notice to the loggers.

        Args:
            event: what it is.
            message: the same in words.
            step: the step that it belongs to, from 1; who resumes from an earlier one makes the record anew.
            values: what else the record says.
        """
        self._metrics.log(self._record(event, step) | values)
        self.notice(message)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Report the losses on the validation split; of averaged weights, the record says of how many steps."""
        self._write(
            self._record("eval", self._progress.step)
            | {
                "loss": evaluation.loss,
                "perplexity": evaluation.perplexity,
                "bits_per_byte": evaluation.bits_per_byte,
            }
            | ({"averaged_steps": self._progress.averaged_steps} if self._progress.is_averaged else {})
        )

    def sample(self, texts: str | Sequence[str]) -> None:
        """Keep what the model wrote."""
        several = [texts] if isinstance(texts, str) else list(texts)
        for index, text in enumerate(several):
            self._samples.log({"step": self._progress.step, "index": index, "text": text})
        if several:
            self._loggers.on_samples(self._progress.step, several)

    def notice(self, message: str) -> None:
        """Tell the loggers something that is no record."""
        self._loggers.log({"event": "notice", "step": self._progress.step, "message": message})

    def note(self) -> None:
        """Note in the progress, which checkpoints carry, how far the records are."""
        self._progress.metrics_lines, self._progress.samples_lines = self._metrics.lines, self._samples.lines

    def sync(self) -> None:
        """Bring the records to the disk, before a checkpoint that relies on them."""
        self._metrics.sync()
        self._samples.sync()
        self._records.write_csv()

    def draw(self) -> None:
        """Draw the learning curve; a failure is warned about and never stops a run."""
        if not self._can_draw:
            return
        path = self._records.path / "loss.png"
        try:
            self._can_draw = draw_losses(read_metrics(self._records.path), path, self._records.path.name)
        except Exception as error:
            self._can_draw = False
            warnings.warn(f"{path} could not be drawn: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Close the files."""
        with closing_all(self._metrics.close, self._samples.close):
            pass

    def _parameter_norm(self) -> float:
        """The L2 norm of all parameters together."""
        with torch.no_grad():
            return float(self._task.parallel.norm(self._task.model.parameters()).item())

    def _record(self, event: str, step: int) -> dict[str, Any]:
        return {
            "event": event,
            "step": step,
            "progress": min(1.0, self._progress.tick / self._config.steps),
            "tokens": self._progress.windows_at(step) * self._config.context_length,
            "seconds_total": self._clock.elapsed(),
            "seconds_training": self._progress.seconds_training,
        }

    def _write(self, record: dict[str, Any]) -> None:
        self._metrics.log(record)
        self._loggers.log(record)
