"""Copies of tensors to a device."""

from __future__ import annotations

from typing import TypeAlias

import torch

SentTensor: TypeAlias = tuple[torch.Tensor, torch.cuda.Event | None]


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy a CPU tensor to the device; on CUDA the host does not wait for the copy."""
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Transfer:
    """Copies tensors to a device from any thread; on CUDA in a stream of its own, parallel to the computation.

    Args:
        device: Where the tensors go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, tensor: torch.Tensor) -> SentTensor:
        """Start to copy a CPU tensor; on CUDA from pinned memory, so that nobody waits for the copy."""
        if self._stream is None:
            return tensor.to(self._device), None
        # The stream also makes its device the current one, which in a new thread is another.
        with torch.cuda.stream(self._stream):
            sent = tensor.pin_memory().to(self._device, non_blocking=True)
        return sent, self._stream.record_event()

    def receive(self, sent: SentTensor) -> torch.Tensor:
        """Return the tensor on the device; on CUDA the device waits for the copy, the host does not."""
        tensor, event = sent
        if event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(event)
            tensor.record_stream(stream)  # keeps its memory reserved while this stream reads it
        return tensor
