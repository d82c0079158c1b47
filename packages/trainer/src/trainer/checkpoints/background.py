"""Checkpoints that are copied at once and written while training continues."""

from __future__ import annotations

import copy
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, TypeAlias

import torch

from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.store import CheckpointStore

_Path: TypeAlias = tuple[Any, ...]
"""Keys that lead to a value in a nested state."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class BackgroundSaver:
    """Copies a state at once and writes the copy in a thread; one save at a time.

    The buffers of the copies are kept from save to save, so that only the first save allocates them.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._buffers = SnapshotBuffers()
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[float] | None = None

    def save(self, state: CheckpointState, before: Callable[[], None]) -> None:
        """Begin to save a state; first wait until the previous one is saved.

        Args:
            state: State to save, which may change as soon as this returns.
            before: Called in the thread before anything is written.

        Raises:
            OSError: If there is no space, or the previous save failed; earlier checkpoints are untouched.
        """
        self.wait()
        self._store.check_space(state.num_bytes())
        began = time.perf_counter()
        copied = self._buffers.copy({"model": state.model, "optimizer": state.optimizer, "training": state.training})
        snapshot = replace(state, **copied)
        seconds_copying = time.perf_counter() - began
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

        def write() -> float:
            began = time.perf_counter()
            self._buffers.wait()
            before()
            self._store.write(snapshot)
            return seconds_copying + time.perf_counter() - began

        self._future = self._executor.submit(write)

    def is_busy(self) -> bool:
        """Return whether a save is under way."""
        return self._future is not None and not self._future.done()

    def poll(self) -> float:
        """Return the seconds of a save that has been completed since the last call, else 0.

        Raises:
            OSError: If it failed.
        """
        return 0.0 if self._future is None or self.is_busy() else self.wait()

    def wait(self) -> float:
        """Wait for the save that is under way, and return the seconds that it took, or 0 if there was none.

        Raises:
            OSError: If it failed.
        """
        if self._future is None:
            return 0.0
        wait([self._future])  # an exception in here leaves the future for the next call
        future, self._future = self._future, None
        return future.result()

    def close(self) -> None:
        """Wait for the save that is under way; a failure is a warning, since the caller may have an error already."""
        try:
            self.wait()
        except Exception as error:
            known = isinstance(error, OSError)  # its message says what could not be saved
            message = str(error) if known else f"a checkpoint could not be saved: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        finally:
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None


class SnapshotBuffers:
    """CPU buffers for one snapshot at a time; the next one goes into the same buffers."""

    def __init__(self) -> None:
        self._buffers: dict[_Path, torch.Tensor] = {}
        self._events: list[torch.cuda.Event] = []

    def copy(self, state: dict[str, Any]) -> dict[str, Any]:
        """Copy a nested state of dicts, lists, tuples, tensors and plain values; tensors are copied to the CPU.

        The previous snapshot is overwritten. Copies from CUDA devices are queued behind the work of the devices, so
        the caller can continue at once; `wait` must be called before the snapshot is read.
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
    def __init__(self, buffers: dict[_Path, torch.Tensor]) -> None:
        self._buffers = buffers
        self._copied: dict[_Path, torch.Tensor] = {}
        self.used: dict[_Path, torch.Tensor] = {}
        self.cuda_devices: set[torch.device] = set()

    def copy(self, value: Any, path: _Path) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value.detach(), path)
        if type(value) in _PLAIN:
            return value
        if type(value) in (dict, OrderedDict):
            return type(value)((key, self.copy(item, (*path, key))) for key, item in value.items())
        if type(value) in (list, tuple):
            return type(value)(self.copy(item, (*path, index)) for index, item in enumerate(value))
        return copy.deepcopy(value)

    def _copy_tensor(self, tensor: torch.Tensor, path: _Path) -> torch.Tensor:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return tensor.to("cpu", copy=True)
        # A tensor that occurs twice, such as a tied weight, is one tensor in the copy too.
        identity = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if identity not in self._copied:
            buffer = self._buffer_for(tensor, path)
            # Pinned memory: the copy is in the order of the device's stream, before any later update.
            buffer.copy_(tensor, non_blocking=tensor.is_cuda and buffer.is_pinned())
            if tensor.is_cuda:
                self.cuda_devices.add(tensor.device)
            self._copied[identity] = self.used[path] = buffer
        return self._copied[identity]

    def _buffer_for(self, tensor: torch.Tensor, path: _Path) -> torch.Tensor:
        buffer = self._buffers.get(path)
        if buffer is not None and buffer.dtype == tensor.dtype and buffer.shape == tensor.shape:
            return buffer
        if tensor.is_cuda:
            try:
                return torch.empty_like(tensor, device="cpu", pin_memory=True)
            except RuntimeError:  # the system pins no more memory
                pass
        return torch.empty_like(tensor, device="cpu")


def _record_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
