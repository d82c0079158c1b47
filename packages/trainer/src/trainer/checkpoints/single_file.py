"""Checkpoints for a user: one file by the assignment's pair of functions, and the weights of a run."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints.directory import (
    META_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    DamagedCheckpointError,
    read_meta,
    read_model,
    read_weights,
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
        TypeError: If a state holds something that `torch.load` would not read.
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


class LoadedWeights(int):
    """Step of loaded weights as a whole number; `path`, `valid_loss` and its `repr` describe their checkpoint."""

    path: Path
    """Directory of the checkpoint."""
    valid_loss: float | None
    """Validation loss of the checkpoint in nats per token; None if it was not evaluated."""

    def __new__(cls, step: int, path: Path, valid_loss: float | None) -> LoadedWeights:
        """Create the number of a step."""
        loaded = super().__new__(cls, step)
        loaded.path, loaded.valid_loss = path, valid_loss
        return loaded

    def __repr__(self) -> str:
        loss = "not evaluated" if self.valid_loss is None else f"validation loss {self.valid_loss:.4f}"
        return f"<step {int(self)}, {loss}, from {self.path}>"


def load_weights(model: nn.Module, run_dir: str | os.PathLike[str]) -> LoadedWeights:
    """Load weights for inference into a model, on whatever device it is, and return their step.

    Args:
        model: A model built as it was when it was trained; compiled or not.
        run_dir: A run, whose best checkpoint is read (lowest validation loss, else the latest); one checkpoint such as
            `runs/mlp/checkpoints/step_0000200`; or another directory with a `model.safetensors`, whose step is 0.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If no checkpoint is intact, or the weights do not fit the model.
        OSError: If one cannot be read.

    Warns:
        RuntimeWarning: If the best evaluation of a finished run is not the loaded checkpoint's.
    """
    path = Path(run_dir)
    if (path / WEIGHTS_FILE).exists() and not ((path / META_FILE).exists() or (path / STATE_FILE).exists()):
        try:
            weights = read_weights(path)
        except DamagedCheckpointError as error:
            raise ValueError(f"the weights in {path} are damaged ({error}); use others") from error
        set_model_state(model, _with_tied(model, weights), str(path))
        return LoadedWeights(0, path, None)
    if (path / META_FILE).exists() or (path / WEIGHTS_FILE).exists():
        try:
            meta, state = read_meta(path), read_model(path)
        except DamagedCheckpointError as error:
            raise ValueError(f"checkpoint {path} is damaged ({error}); use another one") from error
        set_model_state(model, state, str(path))
        return LoadedWeights(int(meta["step"]), path, meta["valid_loss"])
    directory = path / "checkpoints"
    if (best := CheckpointStore(directory, keep=1).load_best_model()) is None:
        raise FileNotFoundError(
            f"no checkpoint in {directory}: expected a run directory whose training has saved one, a checkpoint, or a "
            f"directory with a {WEIGHTS_FILE}"
        )
    checkpoint, meta, state = best
    loaded = LoadedWeights(int(meta["step"]), checkpoint, meta["valid_loss"])
    set_model_state(model, state, str(checkpoint))
    _warn_of_a_better_one(path, loaded)
    return loaded


def _warn_of_a_better_one(run_dir: Path, loaded: LoadedWeights) -> None:
    """Warn if a finished run had a better evaluation than that of the loaded weights."""
    try:
        best = json.loads((run_dir / "summary.json").read_text("utf-8"))["best_valid_loss"]
    except (OSError, ValueError, KeyError, TypeError):  # not finished, or damaged
        return
    if best is not None and (loaded.valid_loss is None or loaded.valid_loss > best):
        warnings.warn(
            f"the best evaluation of {run_dir}, a loss of {best:.4f}, is not on the disk; loaded {loaded!r}",
            RuntimeWarning,
            stacklevel=3,
        )


def _with_tied(model: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """Return weights with those that a model has under several names under each of them."""
    names: dict[int, list[str]] = {}
    for name, tensor in get_model_state(model).items():
        if isinstance(tensor, torch.Tensor):
            names.setdefault(tensor.data_ptr(), []).append(name)
    for several in names.values():
        given = next((name for name in several if name in state), None)
        state |= {name: state[given] for name in several if given is not None and name not in state}
    return state
