"""Background saving: a snapshot of the run is copied immediately, and a thread writes it while training continues."""

from __future__ import annotations

import copy
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch

from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.store import CheckpointStore

_Path: TypeAlias = tuple[Any, ...]
"""Keys that lead to a value in a nested state."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class SaveSeconds(NamedTuple):
    """Seconds that the thread spent on a checkpoint."""

    total: float
    computing: float
    """Seconds of a processor, which other work may have had to wait for."""
    completing: float
    """Seconds after weights and optimizer were written."""


class BackgroundSaver:
    """Saves checkpoints in a background thread, one at a time.

    `save` copies the state before it returns; the thread writes the copy. All saves share the same buffers, so that
    only the first one allocates memory. `begin` does so with weights and optimizer alone, for `complete` to add the
    rest.

    Args:
        store: Store that the checkpoints are written to.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._buffers = SnapshotBuffers()
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[SaveSeconds | None] | None = None
        self._begun: dict[str, Any] = {}
        """Copy of the weights and the optimizer that `begin` writes."""

    def save(self, state: CheckpointState, before: Callable[[], None]) -> None:
        """Start a save, after waiting for the previous one to finish.

        Args:
            state: State to save, which may change as soon as this returns.
            before: Function that the thread calls before it writes the checkpoint.

        Raises:
            OSError: If there is no space, or the previous save failed; earlier checkpoints are untouched.
        """
        self.wait()
        self._store.check_space(state.num_bytes())
        copied = self._buffers.copy({"model": state.model, "optimizer": state.optimizer, "training": state.training})
        snapshot = replace(state, **copied)

        def write() -> SaveSeconds:
            began, computed = time.perf_counter(), time.thread_time()
            self._buffers.wait()
            before()
            self._store.write(snapshot)
            computing = time.thread_time() - computed
            return SaveSeconds(time.perf_counter() - began, computing, self._store.seconds_completing)

        self._submit(write)

    def begin(self, state: CheckpointState) -> None:
        """Start to write weights and optimizer of a checkpoint, after waiting for the previous save to finish.

        Args:
            state: State to save, which may change as soon as this returns.

        Raises:
            OSError: As `save`.
        """
        self.wait()
        self._store.check_space(state.num_bytes())
        self._begun = self._buffers.copy({"model": state.model, "optimizer": state.optimizer})
        snapshot = replace(state, **self._begun, training={})

        def write() -> None:
            self._buffers.wait()
            self._store.begin(snapshot)

        self._submit(write)

    def complete(self, state: CheckpointState, before: Callable[[], None]) -> bool:
        """Write the rest of the checkpoint that was begun, and return True; `wait` must have been called.

        If weights or optimizer have changed since, what was begun is removed, and the result is False.

        Args:
            state: Present state, of the same step.
            before: Function to call before the checkpoint gets its name.

        Raises:
            OSError: If there is no space; earlier checkpoints are untouched.
        """
        is_same = _are_equal(self._begun, {"model": state.model, "optimizer": state.optimizer})
        if is_same:
            before()
            self._store.complete(state)
        else:
            self._store.remove_leftovers()
        self._begun = {}
        return is_same

    def is_busy(self) -> bool:
        """Return whether a save is under way."""
        return self._future is not None and not self._future.done()

    def wait(self) -> SaveSeconds | None:
        """Wait for the save that is under way, and return its seconds; None if there is none, or it was only begun.

        Raises:
            OSError: If the save failed.
        """
        if self._future is None:
            return None
        wait([self._future])  # if a signal interrupts this line, the next call still finds the future
        future, self._future = self._future, None
        return future.result()

    def _submit(self, write: Callable[[], SaveSeconds | None]) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._future = self._executor.submit(write)

    def close(self) -> None:
        """Wait for the save that is under way, and stop the thread.

        A failed save only causes a warning, because the caller may already be handling another exception.
        """
        try:
            self.wait()
            if self._begun:  # nothing has completed it, as after a failure of the last evaluation
                self._store.remove_leftovers()
        except Exception as error:
            explains_itself = isinstance(error, OSError)  # the store's messages name the folder and the remedy
            message = (
                str(error) if explains_itself else f"a checkpoint could not be saved: {type(error).__name__}: {error}"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        finally:
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None


class SnapshotBuffers:
    """CPU buffers that hold the latest snapshot and are reused for the next."""

    def __init__(self) -> None:
        self._buffers: dict[_Path, torch.Tensor] = {}
        self._events: list[torch.cuda.Event] = []

    def copy(self, state: dict[str, Any]) -> dict[str, Any]:
        """Copy a nested state of dicts, lists, tuples, tensors and plain values; tensors are copied to the CPU.

        The previous snapshot is overwritten. Copies from CUDA devices are only queued, behind the work already queued
        there. The caller can continue immediately, but must call `wait` before reading the snapshot.
        """
        copier = _Copier(self._buffers)
        result: dict[str, Any] = copier.copy(state, ())
        self._buffers = copier.used
        self._events = [_record_event(device) for device in copier.cuda_devices]
        return result

    def wait(self) -> None:
        """Wait until the devices have finished copying the latest snapshot."""
        for event in self._events:
            event.synchronize()


class _Copier:
    """Copies one nested state; tensors go into the buffers that the previous snapshot used at the same path.

    `used` collects the buffers of this snapshot, and `cuda_devices` the devices whose copies are still queued.
    """

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
            return tensor.to("cpu", copy=True)  # a subclass or a sparse tensor, which a plain buffer cannot hold
        # A tensor that occurs twice in the state, such as a tied weight, must stay one tensor in the copy.
        identity = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if identity not in self._copied:
            buffer = self._buffer_for(tensor, path)
            # A copy into pinned memory is queued in the device's stream, so it precedes any later update of the tensor.
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
            except RuntimeError:  # the system refuses to pin more memory
                pass
        return torch.empty_like(tensor, device="cpu")


def _are_equal(first: Any, second: Any) -> bool:
    """Return whether nested states have the same values, on whatever devices; sparse tensors never do."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if not first.layout == second.layout == torch.strided or first.dtype != second.dtype:
            return False
        return torch.equal(first.detach().cpu(), second.detach().cpu())
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_are_equal(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_are_equal, first, second))
    return bool(first == second)


def _record_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
