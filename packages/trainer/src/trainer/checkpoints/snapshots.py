"""Copies of a state on the CPU, which stay as they are while training goes on."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, TypeAlias

import torch

_Place: TypeAlias = tuple[Any, ...]
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class SnapshotBuffers:
    """Memory for one snapshot at a time; the next one goes into the same memory."""

    def __init__(self) -> None:
        self._buffers: dict[_Place, torch.Tensor] = {}
        self._events: list[torch.cuda.Event] = []

    def copy(self, state: dict[str, Any]) -> dict[str, Any]:
        """Copy a nested state of dicts, lists, tuples, tensors and plain values; tensors come to the CPU.

        The former snapshot is overwritten. Copies from CUDA devices are queued behind what the devices have to
        compute, so the caller can go on at once; `wait` must be called before the snapshot is read.
        """
        copier = _Copier(self._buffers)
        result: dict[str, Any] = copier.copy(state, ())
        self._buffers = copier.used
        self._events = [_record_event(device) for device in copier.cuda_devices]
        return result

    def wait(self) -> None:
        """Wait until the last snapshot is complete."""
        for event in self._events:
            event.synchronize()


class _Copier:
    def __init__(self, buffers: dict[_Place, torch.Tensor]) -> None:
        self._buffers = buffers
        self._copied: dict[_Place, torch.Tensor] = {}
        self.used: dict[_Place, torch.Tensor] = {}
        self.cuda_devices: set[torch.device] = set()

    def copy(self, value: Any, place: _Place) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value.detach(), place)
        if type(value) in _PLAIN:
            return value
        if type(value) in (dict, OrderedDict):
            return type(value)((key, self.copy(item, (*place, key))) for key, item in value.items())
        if type(value) in (list, tuple):
            return type(value)(self.copy(item, (*place, index)) for index, item in enumerate(value))
        return copy.deepcopy(value)

    def _copy_tensor(self, tensor: torch.Tensor, place: _Place) -> torch.Tensor:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return tensor.to("cpu", copy=True)
        # The same tensor in two places, such as a tied weight, is one in the copy too.
        identity = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if identity not in self._copied:
            buffer = self._buffer_for(tensor, place)
            # Pinned memory: the copy is in the order of the device's stream, before any later update.
            buffer.copy_(tensor, non_blocking=tensor.is_cuda and buffer.is_pinned())
            if tensor.is_cuda:
                self.cuda_devices.add(tensor.device)
            self._copied[identity] = self.used[place] = buffer
        return self._copied[identity]

    def _buffer_for(self, tensor: torch.Tensor, place: _Place) -> torch.Tensor:
        buffer = self._buffers.get(place)
        if buffer is not None and buffer.dtype == tensor.dtype and buffer.shape == tensor.shape:
            return buffer
        if tensor.is_cuda:
            try:
                return torch.empty_like(tensor, device="cpu", pin_memory=True)
            except RuntimeError:  # the system lets no more memory be pinned
                pass
        return torch.empty_like(tensor, device="cpu")


def count_bytes(state: Any) -> int:
    """Return the bytes of all tensors in a nested state, those that share their memory once."""
    sizes: dict[_Place, int] = {}
    _collect_sizes(state, sizes)
    return sum(sizes.values())


def _collect_sizes(value: Any, sizes: dict[_Place, int]) -> None:
    if isinstance(value, torch.Tensor):
        is_plain = type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided
        memory: _Place = (value.device, value.data_ptr()) if is_plain else (id(value),)
        sizes[memory] = max(sizes.get(memory, 0), value.numel() * value.element_size())
    elif isinstance(value, dict):
        for item in value.values():
            _collect_sizes(item, sizes)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect_sizes(item, sizes)


def _record_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
