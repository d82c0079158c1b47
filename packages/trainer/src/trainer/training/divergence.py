"""Losses and gradients that are not finite, and what becomes of their steps."""

from __future__ import annotations

from trainer.records.reporter import Reporter
from trainer.training.losses import LossMeter
from trainer.training.progress import Progress

_MOST_SKIPPED_IN_A_ROW = 20


class Divergence:
    """Notes in the progress when a run has diverged, and counts the steps that were skipped instead."""

    def __init__(self, progress: Progress, meter: LossMeter, reporter: Reporter) -> None:
        self._progress = progress
        self._meter = meter
        self._reporter = reporter

    def has_come(self) -> bool:
        """Return whether the run has diverged."""
        return self._progress.diverged_at_step is not None

    def check(self) -> bool:
        """Wait for the device, note the first step that was not finite, and return whether there is one."""
        if not self.has_come() and (step := self._meter.first_bad_step()) is not None:
            self._note(step, "loss or gradient norm")
        return self.has_come()

    def check_evaluation(self) -> None:
        """Note it if the last validation loss was not finite."""
        if self._progress.valid_loss is None and not self.has_come():
            self._note(self._progress.step, "validation loss")

    def skip(self, loss: float, grad_norm: float) -> None:
        """Report a step that is not finite and makes no update; too many in a row are a divergence."""
        progress = self._progress
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        step = progress.step + 1
        message = f"no update at step {step:,}: its loss is {loss:g}, its gradient norm {grad_norm:g}"
        self._reporter.incident("skipped", message, step, loss=loss, grad_norm=grad_norm)
        if progress.skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW:
            self._note(step, f"{_MOST_SKIPPED_IN_A_ROW} times in a row, loss or gradient norm")

    def _note(self, step: int, what: str) -> None:
        self._progress.diverged_at_step = step
        self._progress.divergence = f"{what} not finite at step {step:,}"
        self._reporter.notice(f"diverged: {self._progress.divergence}")
