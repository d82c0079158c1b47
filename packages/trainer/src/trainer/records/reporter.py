"""Records, samples and notices of a run, written to its files and passed to the loggers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch

from trainer.devices import Speed, peak_memory_bytes
from trainer.evaluation import Evaluation
from trainer.loggers.group import LoggerGroup
from trainer.records.lines import JsonlLogger
from trainer.records.plots import draw_losses
from trainer.records.run_directory import RunDirectory, read_metrics


class Reporter:
    """Writes the records of a session, from `open` on; leaving its context closes the files.

    Args:
        records: Run directory.
        loggers: Receives the records as well.
        moment: Returns what every record says about a step, by default the last one: "step", "progress", "tokens",
            "seconds_total" and "seconds_training".
        speed: Operations of the model and of the device, for the utilization.
        device: Device whose memory is recorded.
    """

    def __init__(
        self,
        records: RunDirectory,
        loggers: LoggerGroup,
        moment: Callable[..., dict[str, Any]],
        speed: Speed,
        device: torch.device,
    ) -> None:
        self._records = records
        self._loggers = loggers
        self._moment = moment
        self._speed = speed
        self._device = device
        self._can_draw = records.writes
        self._reported_tokens, self._reported_seconds = 0, 0.0
        self._lines: dict[str, int | None] = {"metrics.jsonl": None, "samples.jsonl": None}
        self._files: dict[str, JsonlLogger] = {}
        self._exported_lines = 0

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint: how far the records are."""
        return {
            "tokens": self._reported_tokens,
            "seconds_training": self._reported_seconds,
            "lines": {name: file.lines for name, file in self._files.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, before `open`."""
        self._reported_tokens, self._reported_seconds = state["tokens"], state["seconds_training"]
        self._lines = state["lines"]

    def open(self, last_step: int) -> None:
        """Open the files, cut back to the step of the checkpoint that the run resumes from; -1 for a new run."""
        for name, lines in self._lines.items():
            self._files[name] = self._records.open_lines(name, last_step, lines)

    def training(
        self,
        step: int,
        loss: float,
        loss_max: float | None,
        *,
        learning_rate: float,
        group_rates: Sequence[float],
        factors: Mapping[str, float],
        grad_norm: float,
        parameter_norm: float,
        loss_scale: float | None = None,
    ) -> None:
        """Record the steps since the last such record.

        Args:
            step: Last of the steps, from 1; it may be one that is not made, because its loss is not finite.
            loss: Mean of their losses.
            loss_max: Largest of them.
            learning_rate: Rate of the last step.
            group_rates: Rates of the parameter groups, which are recorded if they differ.
            factors: Factors of the weight decay and the momentum in the last step, if they are scheduled, by name.
            grad_norm: Gradient norm of the last step, before clipping.
            parameter_norm: Norm of all parameters together.
            loss_scale: Factor of the losses in backward passes; None without loss scaling.
        """
        record = {"event": "train", **self._moment(step)}
        seconds = record["seconds_training"] - self._reported_seconds
        tokens_per_second = (record["tokens"] - self._reported_tokens) / seconds if seconds > 0 else None
        self._reported_tokens, self._reported_seconds = record["tokens"], record["seconds_training"]
        record |= {
            "loss": loss,
            "loss_max": loss_max,
            "lr": learning_rate,
            "grad_norm": grad_norm,
            "parameter_norm": parameter_norm,
            "tokens_per_second": tokens_per_second,
            "mfu": self._speed.utilisation(tokens_per_second),
            "memory_bytes": peak_memory_bytes(self._device),
        }
        if loss_scale is not None:
            record["loss_scale"] = loss_scale
        record |= {f"{name}_factor": factor for name, factor in factors.items()}
        if any(rate != learning_rate for rate in group_rates):
            record["group_lrs"] = list(group_rates)
        self._write(record)

    def incident(self, event: str, message: str, step: int, **values: float | None) -> None:
        """Record a spike, a skipped step or smaller micro-batches, and send the loggers a notice.

        Args:
            event: Name of the event.
            message: Its description in words.
            step: The step that it belongs to, from 1; a run that resumes from an earlier step records it anew.
            values: Other values of the record.
        """
        self._files["metrics.jsonl"].log({"event": event, **self._moment(step), **values})
        self.notice(message)

    def evaluation(self, step: int, evaluation: Evaluation, averaged_steps: int = 0) -> None:
        """Record the losses on the validation split.

        Args:
            step: Optimizer steps made.
            evaluation: The losses.
            averaged_steps: Steps whose weights are averaged in the model; 0 if it has its own.
        """
        values = {name: getattr(evaluation, name) for name in ("loss", "perplexity", "bits_per_byte")}
        averaged = {"averaged_steps": averaged_steps} if averaged_steps else {}
        self._write({"event": "eval", **self._moment(step), **values, **averaged})

    def sample(self, step: int, texts: str | Sequence[str]) -> None:
        """Keep what the model wrote."""
        several = [texts] if isinstance(texts, str) else list(texts)
        for index, text in enumerate(several):
            self._files["samples.jsonl"].log({"step": step, "index": index, "text": text})
        if several:
            self._loggers.on_samples(step, several)

    def notice(self, message: str) -> None:
        """Send the loggers a message that is no record."""
        self._loggers.log({"event": "notice", "step": self._moment()["step"], "message": message})

    def sync(self) -> None:
        """Flush the records to the disk, before a checkpoint that relies on them."""
        for file in self._files.values():
            file.sync()

    def export(self) -> None:
        """Write `metrics.csv` and draw `loss.png`; a drawing that fails is warned about and never stops a run."""
        self._write_csv()
        if not self._can_draw:
            return
        path = self._records.path / "loss.png"
        try:
            self._can_draw = draw_losses(read_metrics(self._records.path), path, self._records.path.name)
        except Exception as error:
            self._can_draw = False
            warnings.warn(f"{path} could not be drawn: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the files, and bring `metrics.csv` up to date.

        Raises:
            OSError: If that fails, unless an OSError is on its way already, such as that of a full disk.
        """
        try:
            for file in self._files.values():
                file.close()
            if self._files and self._exported_lines != self._files["metrics.jsonl"].lines:
                self._write_csv()
        except OSError:
            if not isinstance(error, OSError):
                raise

    def _write_csv(self) -> None:
        try:
            self._records.write_csv()
        except PermissionError as error:  # on Windows, of a file that a spreadsheet shows
            warnings.warn(
                f"metrics.csv of {self._records.path} cannot be written ({error.strerror or error}): close it if "
                "another program has it open; metrics.jsonl has every record",
                RuntimeWarning,
                stacklevel=3,
            )
        self._exported_lines = self._files["metrics.jsonl"].lines

    def _write(self, record: dict[str, Any]) -> None:
        self._files["metrics.jsonl"].log(record)
        self._loggers.log(record)
