"""Losses of the steps between two records: their mean, spikes, and divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

_SPIKE_NATS, _SPIKE_SHARE = 0.3, 0.2
_USUAL_DECAY = 0.9
_MAX_UNREAD = 1000
_MAX_SKIPPED_IN_A_ROW = 20


class LossRecord(NamedTuple):
    """Statistics of the losses since the last record."""

    mean: float
    """nan if there were no losses."""
    largest: float | None
    usual: float | None
    """Moving average of the means of earlier records; None in the first record."""
    is_spike: bool
    """Whether the largest loss is above the usual loss by more than 0.3 nats, and by more than a fifth."""


class Losses:
    """Collects the losses and gradient norms of the steps, and detects divergence.

    The values stay on the device until a method needs them, so that the host need not wait at every step.

    Args:
        on_divergence: Called with a message when the run has diverged.
    """

    def __init__(self, on_divergence: Callable[[str], None] = lambda message: None) -> None:
        self._on_divergence = on_divergence
        self._unread: list[torch.Tensor] = []
        self._unread_steps: list[int] = []
        self._unread_flags: list[torch.Tensor | None] = []
        self._first_bad: int | None = None
        self._sum = 0.0
        self._largest = -math.inf
        self._usual: float | None = None
        self._skipped_in_a_row = 0
        self.count = 0
        """Number of losses since the last record, without skipped steps and, once read, those without targets."""
        self.grad_norm: float | None = None
        """Gradient norm of the last step that was not skipped and whose values have been read from the device."""
        self.spikes = 0
        """Records whose largest loss was a spike."""
        self.skipped_steps = 0
        """Steps that made no update, because their loss or gradient was not finite."""
        self.diverged_at_step: int | None = None
        self.divergence: str | None = None
        """The divergence in words."""

    def state_dict(self) -> dict[str, Any]:
        """Wait for the device, and return plain values for a checkpoint."""
        self._read()
        return {
            "sum": self._sum,
            "largest": self._largest,
            "count": self.count,
            "usual": self._usual,
            "grad_norm": self.grad_norm,
            "spikes": self.spikes,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. A state has no divergence: a diverged run saves no checkpoint."""
        self._sum, self._largest, self._usual = state["sum"], state["largest"], state["usual"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
        self.count, self.grad_norm = state["count"], state["grad_norm"]
        self.spikes, self.skipped_steps = state["spikes"], state["skipped_steps"]

    def add(
        self, loss: torch.Tensor, grad_norm: torch.Tensor, step: int, has_targets: torch.Tensor | None = None
    ) -> None:
        """Collect the loss and gradient norm of a step that is not skipped: scalars on the same device.

        A step of which no target counts has no loss; `has_targets` is None where all count.
        """
        self._skipped_in_a_row = 0
        self._unread += (loss, grad_norm)
        self._unread_flags.append(has_targets)
        self._unread_steps.append(step)
        self.count += 1
        if len(self._unread_steps) >= _MAX_UNREAD:
            self._read()

    def note_skipped(self, step: int) -> None:
        """Count a step that is skipped, without an update; 20 in a row are a divergence."""
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= _MAX_SKIPPED_IN_A_ROW:
            self._diverge(step, f"loss or gradient norm not finite in {_MAX_SKIPPED_IN_A_ROW} steps in a row, up to")

    def note_evaluation(self, loss: float | None, step: int) -> None:
        """Check a validation loss; None stands for a loss that is not finite, which is a divergence."""
        if loss is None and not self.have_diverged:
            self._diverge(step, "validation loss not finite at")

    def check(self) -> bool:
        """Wait for the device, and return whether the run has diverged."""
        self._read()
        if self._first_bad is not None and not self.have_diverged:
            self._diverge(self._first_bad, "loss or gradient norm not finite at")
        return self.have_diverged

    @property
    def usual(self) -> float | None:
        """Moving average of the means of the records so far; None before the first."""
        return self._usual

    @property
    def have_diverged(self) -> bool:
        """True if the run has diverged, as far as the losses have been read."""
        return self.diverged_at_step is not None

    def take(self) -> LossRecord:
        """Wait for the device, return the statistics since the last record, and start the next record."""
        self._read()
        mean = self._sum / self.count if self.count else math.nan
        largest, usual = self._largest if math.isfinite(self._largest) else None, self._usual
        is_spike = largest is not None and usual is not None and _is_spike(largest, usual)
        if math.isfinite(mean):
            self._usual = mean if usual is None else _USUAL_DECAY * usual + (1 - _USUAL_DECAY) * mean
        self.spikes += is_spike
        self._sum, self.count, self._largest = 0.0, 0, -math.inf
        return LossRecord(mean, largest, usual, is_spike)

    def _diverge(self, step: int, what: str) -> None:
        self.diverged_at_step = step
        self.divergence = f"{what} step {step:,}"
        self._on_divergence(f"diverged: {self.divergence}")

    def _read(self) -> None:
        """Read the values that are still on the device; they are summed in float64."""
        if not self._unread:
            return
        values = torch.stack(self._unread).tolist()
        flags = [True if flag is None else bool(flag) for flag in self._unread_flags]
        for step, loss, grad_norm, has_targets in zip(
            self._unread_steps, values[::2], values[1::2], flags, strict=True
        ):
            self.count -= not has_targets
            self._sum += loss if has_targets else 0.0
            if has_targets and (
                loss > self._largest or math.isnan(loss)
            ):  # nan compares false, so it stays the largest
                self._largest = loss
            if self._first_bad is None and not (math.isfinite(loss) and math.isfinite(grad_norm)):
                self._first_bad = step
            self.grad_norm = grad_norm
        self._unread, self._unread_steps, self._unread_flags = [], [], []


def _is_spike(loss: float, usual: float) -> bool:
    return loss > usual + max(_SPIKE_NATS, _SPIKE_SHARE * usual)
