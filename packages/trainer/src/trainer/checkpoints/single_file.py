"""Checkpoints for a user: one file by the assignment's pair of functions, and the weights of a run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import IO, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints.directory import (
    META_FILE,
    WEIGHTS_FILE,
    DamagedCheckpointError,
    read_meta,
    read_model,
    save_torch,
)
from trainer.checkpoints.state_dicts import get_model_state, set_model_state, set_optimizer_state
from trainer.checkpoints.store import CheckpointStore
from trainer.support.files import atomic_file

PathOrFile: TypeAlias = str | os.PathLike[str] | IO[bytes]


def save_checkpoint(model: nn.Module, optimizer: Optimizer, step: int, path_or_file: PathOrFile) -> None:
    """Write model, optimizer and step into one file, which `torch.load(weights_only=True)` can read.

    A path is written atomically: a crash leaves the previous file or the new one.

    Raises:
        OSError: If the path cannot be written.
    """
    content = {"model": get_model_state(model), "optimizer": optimizer.state_dict(), "step": step}
    if not isinstance(path_or_file, str | os.PathLike):
        save_torch(content, path_or_file)
        return
    with atomic_file(path_or_file) as file:
        save_torch(content, file)


def load_checkpoint(path_or_file: PathOrFile, model: nn.Module, optimizer: Optimizer | None) -> int:
    """Restore what `save_checkpoint` wrote, and return its step.

    Args:
        path_or_file: Path or binary file object.
        model: Gets the weights, on whatever device it is; compiled or not.
        optimizer: Gets its state; None ignores the state, which is enough for inference.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint, is damaged, or does not fit the model or the optimizer.
    """
    is_path = isinstance(path_or_file, str | os.PathLike)
    source = str(path_or_file) if is_path else "the checkpoint"
    if is_path and not Path(source).is_file():
        raise FileNotFoundError(f"no checkpoint at {source}: expected a file that save_checkpoint wrote")
    try:
        content = torch.load(path_or_file, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{source} is not a checkpoint or is damaged ({reason}); use another one") from error
    if not isinstance(content, dict) or not {"model", "optimizer", "step"} <= content.keys():
        raise ValueError(f"{source} is not a checkpoint: expected model, optimizer and step, as save_checkpoint writes")
    set_model_state(model, content["model"], source)
    if optimizer is not None:
        set_optimizer_state(optimizer, content["optimizer"], source)
    return int(content["step"])


def load_weights(model: nn.Module, run_dir: str | os.PathLike[str]) -> int:
    """Load weights for inference into a model, on whatever device it is, and return their step.

    Args:
        model: A model built as it was when it was trained; compiled or not.
        run_dir: A run, whose best checkpoint is read (lowest validation loss, else the latest), or one checkpoint such
            as `runs/mlp/checkpoints/step_0000200`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If no checkpoint is intact, or the weights do not fit the model.
        OSError: If one cannot be read.
    """
    path = Path(run_dir)
    if (path / META_FILE).exists() or (path / WEIGHTS_FILE).exists():
        try:
            step, state = int(read_meta(path)["step"]), read_model(path)
        except DamagedCheckpointError as error:
            raise ValueError(f"checkpoint {path} is damaged ({error}); use another one") from error
        set_model_state(model, state, str(path))
        return step
    directory = path / "checkpoints"
    if (best := CheckpointStore(directory, keep=1).load_best_model()) is None:
        raise FileNotFoundError(
            f"no checkpoint in {directory}: expected a run directory whose training has saved one, or a checkpoint"
        )
    step, state = best
    set_model_state(model, state, f"step {step:,} in {directory}")
    return step
