"""States of all random number generators that training may use, in one process and in several."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from trainer.distributed import Processes

_MT19937_BYTES = 625 * 4  # 624 words, and the position among them
_HAS_GAUSS = 3  # index in NumPy's state


def seed_everything(seed: int, rank: int = 0, step: int = 0) -> None:
    """Seed Python's, NumPy's and torch's global generators.

    Args:
        seed: Seed of the run.
        rank: Rank of the process; rank 0 is seeded as if it were alone, each other one in its own way.
        step: Step at which the process joins the run.
    """
    if rank:
        seed = int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_random_states(numpy_reader: NumpyStateReader | None = None) -> dict[str, Any]:
    """Return all states as plain values and tensors, which `torch.load(weights_only=True)` accepts.

    Of several GPUs, only the state of the current one is returned, on which the process computes: a checkpoint may be
    resumed where there are more of them, or fewer.

    Args:
        numpy_reader: Reads the state of NumPy's generator faster, for a caller that does so often.
    """
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (numpy_reader or NumpyStateReader()).read(),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


class NumpyStateReader:
    """Reads the state of NumPy's global generator, anew only if something was drawn: NumPy needs 100 microseconds."""

    def __init__(self) -> None:
        self._memory = b""
        self._state: tuple[Any, ...] = ()

    def read(self) -> tuple[Any, ...]:
        """Return the state as plain values and a tensor."""
        generator = np.random.get_bit_generator()  # type: ignore[attr-defined, unused-ignore]
        memory = b""
        if isinstance(generator, np.random.MT19937):
            memory = ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
        # A second normal number that is kept for the next call leaves this memory as it is.
        if not memory or memory != self._memory or self._state[_HAS_GAUSS]:
            name, keys, *rest = np.random.get_state(legacy=True)
            self._memory, self._state = memory, (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest)
        return self._state


def set_random_states(states: dict[str, Any]) -> None:
    """Restore what `get_random_states` returned; states of devices that this machine lacks are ignored."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


def same_random_states(one: Any, other: Any) -> bool:
    """Return whether two results of `get_random_states` are equal."""
    if isinstance(one, dict):
        return all(same_random_states(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return all(same_random_states(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@contextmanager
def preserved_random_states() -> Iterator[None]:
    """Undo what the block does to the random states."""
    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(states)


def collect_random_states(processes: Processes) -> dict[str, Any]:
    """Return the random states of all processes on rank 0, as a part of a checkpoint."""
    return {"random_states": processes.gather(get_random_states())}


def restore_random_states(states: list[dict[str, Any]], processes: Processes, seed: int, step: int) -> None:
    """Restore the random states of this process; a rank that did not exist when they were saved is seeded anew.

    Args:
        states: States of the ranks, as `collect_random_states` returned them.
        processes: Processes of the run.
        seed: Seed of the run.
        step: Step of the checkpoint.
    """
    if processes.rank < len(states):
        set_random_states(states[processes.rank])
    else:
        seed_everything(seed, processes.rank, step)


def draw_like_rank_0(processes: Processes) -> None:
    """Set the random states of this process to those of rank 0, on the device too."""
    set_random_states(processes.on_rank_0(get_random_states))
