"""What becomes of the steps' losses until they are recorded."""

from __future__ import annotations

import math

import torch

from trainer.progress import Progress

_SPIKE_NATS, _SPIKE_SHARE = 0.3, 0.2
_MEMORY = 0.9


class LossMeter:
    """Sums losses, keeps the largest, and finds the first bad one, on the device: the host need not wait for it."""

    def __init__(self, device: torch.device, progress: Progress) -> None:
        # MPS has no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        largest = -math.inf if progress.loss_max is None else progress.loss_max
        self._progress = progress
        self._sum = torch.tensor(progress.loss_sum, dtype=dtype, device=device)
        self._largest = torch.tensor(largest, dtype=dtype, device=device)
        self._first_bad = torch.tensor(-1, device=device)

    def add(self, loss: torch.Tensor, grad_norm: torch.Tensor, step: int) -> None:
        """Take the loss and gradient norm of one step, both scalars."""
        self._sum += loss
        self._largest = torch.maximum(self._largest, loss)
        self._progress.loss_count += 1
        is_first = (self._first_bad < 0) & ~torch.isfinite(loss + grad_norm)
        self._first_bad.masked_fill_(is_first, step)

    def first_bad_step(self) -> int | None:
        """Wait for the device and return the first step that was not finite, or None."""
        step = int(self._first_bad.item())
        return None if step < 0 else step

    def note(self) -> None:
        """Wait for the device and note the sum and the largest loss in the progress, which checkpoints carry."""
        self._progress.loss_sum = float(self._sum.item())
        largest = float(self._largest.item())
        self._progress.loss_max = largest if math.isfinite(largest) else None

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
        self._sum.zero_()
        self._largest.fill_(-math.inf)
        return mean, largest, is_spike


def _is_spike(loss: float, usual: float) -> bool:
    return loss > usual + max(_SPIKE_NATS, _SPIKE_SHARE * usual)
