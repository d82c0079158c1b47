"""Where a run of any number of processes goes on: its latest checkpoint, and each process's random states."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer.checkpoints.directory import CheckpointContent, read_meta, read_verified, verify
from trainer.checkpoints.random_states import get_random_states, seed_everything, set_random_states
from trainer.checkpoints.state_dicts import set_model_state, set_optimizer_state
from trainer.checkpoints.store import CheckpointStore
from trainer.distributed.parallel import Parallel
from trainer.distributed.processes import Processes
from trainer.training.progress import Progress

if TYPE_CHECKING:
    from trainer.task import Task


def restore(task: Task, store: CheckpointStore) -> tuple[Progress, dict[str, torch.Tensor], bool]:
    """Set everything to the latest intact checkpoint, or to the start.

    Returns:
        The counts; the running mean of the weights, by name, if there is one; whether there was a checkpoint.

    Raises:
        ValueError, OSError: as `load_latest`; or the checkpoint does not fit the model or the optimizer.
    """
    processes, config = task.parallel.processes, task.config
    processes.from_writer(store.remove_leftovers)
    content = load_latest(store, processes, task.parallel)
    if content is None:
        seed_everything(config.seed, processes.rank)
        return Progress(), {}, False
    set_model_state(task.model, content.model, str(content.path))
    set_optimizer_state(task.optimizer, content.optimizer, str(content.path))
    restore_random_states(content.training, processes, config.seed)
    progress = Progress.from_dict(content.training["progress"], config)
    return progress, content.training.get("average", {}), True


def load_latest(
    store: CheckpointStore, processes: Processes, parallel: Parallel | None = None, *, set_aside: bool = True
) -> CheckpointContent | None:
    """Return the latest intact checkpoint, which the writer finds and verifies, or None.

    Args:
        store: all processes have to see its directory.
        processes: those of the run.
        parallel: for what to read; if that is sharded, so may the content be. None reads everything whole.
        set_aside: as for `CheckpointStore.load_latest`.

    Raises:
        ValueError, OSError: as `CheckpointStore.load_latest`.
        FileNotFoundError: this process does not see what the writer sees.
    """
    if not processes.are_several:
        return store.load_latest(set_aside=set_aside)
    path: Path | None = processes.from_writer(lambda: _find(store, set_aside=set_aside))
    if path is None:
        return None
    if not path.exists():
        raise FileNotFoundError(
            f"process {processes.rank} does not see {path}: expected a run directory on a disk that all processes share"
        )
    if not read_meta(path).get("sharded"):
        return read_verified(path)
    from trainer.checkpoints.sharded import read_sharded, read_whole

    if parallel is None or not parallel.is_sharded:
        return read_whole(path)
    return read_sharded(path, parallel.model, parallel.optimizer, processes)


def collect_random_states(processes: Processes) -> dict[str, Any]:
    """Return the writer's random states and those of the others as parts of a checkpoint."""
    first, *others = processes.gather(get_random_states()) or [None]
    return {"random_states": first} | ({"random_states_of_others": others} if others else {})


def restore_random_states(training: dict[str, Any], processes: Processes, seed: int) -> None:
    """Restore this process's random states; one that was not there before begins a stream of its own."""
    others = training.get("random_states_of_others", [])
    states = [training["random_states"], *others]
    if processes.rank < len(states):
        set_random_states(states[processes.rank])
    else:
        seed_everything(seed, processes.rank, training["progress"]["step"])


def draw_like_the_writer(processes: Processes) -> None:
    """Set this process's random states to the writer's, on the device too."""
    set_random_states(processes.from_writer(get_random_states))


def _find(store: CheckpointStore, *, set_aside: bool) -> Path | None:
    def check(path: Path) -> CheckpointContent:
        verify(path)
        return CheckpointContent(path, {}, {}, {})

    content = store.load_latest(set_aside=set_aside, read=check)
    return None if content is None else content.path
