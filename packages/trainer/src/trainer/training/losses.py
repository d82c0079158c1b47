"""What becomes of the steps' losses until they are recorded."""

from __future__ import annotations

import math

import torch

from trainer.training.progress import Progress

_SPIKE_NATS, _SPIKE_SHARE = 0.3, 0.2
_MEMORY = 0.9
_MOST_UNREAD = 1000


class LossMeter:
    """Sums losses, keeps the largest, and finds the first bad one.

    They are read together when somebody asks: so the host does not wait for the device at every step, and the device
    has nothing to compute for it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._unread: list[torch.Tensor] = []
        self._unread_steps: list[int] = []
        self._sum = progress.loss_sum
        self._largest = -math.inf if progress.loss_max is None else progress.loss_max
        self._grad_norm = progress.grad_norm
        self._first_bad: int | None = None

    def add(self, loss: torch.Tensor, grad_norm: torch.Tensor, step: int) -> None:
        """Take the loss and gradient norm of one step, both scalars on the same device."""
        self._unread += (loss, grad_norm)
        self._unread_steps.append(step)
        self._progress.loss_count += 1
        if len(self._unread_steps) >= _MOST_UNREAD:
            self._read()

    def first_bad_step(self) -> int | None:
        """Wait for the device and return the first step that was not finite, or None."""
        self._read()
        return self._first_bad

    def note(self) -> None:
        """Wait for the device and note in the progress, which checkpoints carry, what the next record will need."""
        self._read()
        self._progress.grad_norm = self._grad_norm
        self._progress.loss_sum = self._sum
        self._progress.loss_max = self._largest if math.isfinite(self._largest) else None

    def take(self) -> tuple[float, float | None, bool]:
        """Return the mean loss, the largest, and whether that is a spike; a new mean begins.

        A spike is a fifth, and 0.3 nats, above the moving average of the recorded means before.
        """
        self.note()
        progress = self._progress
        mean = progress.loss_sum / progress.loss_count if progress.loss_count else math.nan
        largest, usual = progress.loss_max, progress.usual_loss
        is_spike = largest is not None and usual is not None and _is_spike(largest, usual)
        if math.isfinite(mean):
            progress.usual_loss = mean if usual is None else _MEMORY * usual + (1 - _MEMORY) * mean
        progress.spikes += is_spike
        progress.loss_sum, progress.loss_count, progress.loss_max = 0.0, 0, None
        self._sum, self._largest = 0.0, -math.inf
        return mean, largest, is_spike

    def _read(self) -> None:
        """Look at what has come since; the sums are in float64."""
        if not self._unread:
            return
        values = torch.stack(self._unread).tolist()
        for step, loss, grad_norm in zip(self._unread_steps, values[::2], values[1::2], strict=True):
            self._sum += loss
            if loss > self._largest or math.isnan(loss):
                self._largest = loss
            if self._first_bad is None and not (math.isfinite(loss) and math.isfinite(grad_norm)):
                self._first_bad = step
            self._grad_norm = grad_norm
        self._unread, self._unread_steps = [], []


def _is_spike(loss: float, usual: float) -> bool:
    return loss > usual + max(_SPIKE_NATS, _SPIKE_SHARE * usual)
