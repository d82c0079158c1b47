"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.snapshots import SnapshotBuffers
from trainer.checkpoints.store import CheckpointStore


class BackgroundSaver:
    """Copies a state at once and writes the copy in a thread; one save at a time.

    The copies stay in memory from save to save, so that only the first one has to ask for it.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._buffers = SnapshotBuffers()
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[float] | None = None

    def save(self, state: CheckpointState, before: Callable[[], None]) -> None:
        """Begin to save a state; first wait until the former one is saved.

        Args:
            state: may change as soon as this returns.
            before: called in the thread before anything is written.

        Raises:
            OSError: there is no room, or the former save failed; the earlier checkpoints are untouched.
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
        """Return the seconds that a save took which has just been completed, else 0.

        Raises:
            OSError: it failed.
        """
        return 0.0 if self._future is None or self.is_busy() else self.wait()

    def wait(self) -> float:
        """Wait for the save that is under way, and return the seconds that it took, or 0 if there was none.

        Raises:
            OSError: it failed.
        """
        if self._future is None:
            return 0.0
        wait([self._future])  # an interruption of the waiting leaves it for the next time
        future, self._future = self._future, None
        return future.result()

    def close(self) -> None:
        """Wait for the save that is under way; warn if it fails, for whoever closes has another error already."""
        try:
            self.wait()
        except Exception as error:
            known = isinstance(error, OSError)  # which says itself what could not be saved
            message = str(error) if known else f"a checkpoint could not be saved: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        finally:
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None
