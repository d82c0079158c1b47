"""Resuming a run of any number of processes from its latest intact checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.checkpoints.directory import CheckpointState, read_verified
from trainer.checkpoints.random_states import restore_random_states, seed_everything
from trainer.checkpoints.state_dicts import set_model_state, set_optimizer_state
from trainer.checkpoints.store import CheckpointStore
from trainer.distributed import Parallel, Processes


def restore_run(store: CheckpointStore, parallel: Parallel, seed: int) -> dict[str, Any] | None:
    """Set model, optimizer and random states to the latest intact checkpoint, or seed the random states.

    Args:
        store: Checkpoints of the run, whose directory all processes must see.
        parallel: The model and the optimizer.
        seed: Seed of the run.

    Returns:
        The states of everything else by name, or None if there is no checkpoint.

    Raises:
        ValueError: If no checkpoint is intact, or it does not fit the model or the optimizer.
        OSError: If one cannot be read.
    """
    processes = parallel.processes
    processes.on_rank_0(store.remove_leftovers)
    content = load_latest(store, processes)
    if content is None:
        seed_everything(seed, processes.rank)
        return None
    source = str(content.path)
    set_model_state(parallel.model, content.model, source, parallel.shard_like)
    set_optimizer_state(parallel.optimizer, content.optimizer, source, parallel.shard_like)
    restore_random_states(content.training["random_states"], processes, seed, content.step)
    return content.training


def load_latest(store: CheckpointStore, processes: Processes, *, set_aside: bool = True) -> CheckpointState | None:
    """Return the latest intact checkpoint, which rank 0 finds and verifies, or None.

    Args:
        store: Checkpoints of the run, whose directory all processes must see.
        processes: Processes of the run.
        set_aside: As for `CheckpointStore.load_latest`.

    Raises:
        ValueError, OSError: As `CheckpointStore.load_latest`.
        FileNotFoundError: If this process does not see what rank 0 sees.
    """
    content: CheckpointState | None = None

    def find() -> Path | None:
        nonlocal content
        content = store.load_latest(set_aside=set_aside)
        return None if content is None else content.path

    path = processes.on_rank_0(find)
    if path is None or processes.is_rank_0:
        return content
    if not path.exists():
        raise FileNotFoundError(
            f"process {processes.rank} does not see {path}: expected a run directory on a disk that all processes share"
        )
    return read_verified(path)
