"""Checkpoints: one file by the assignment's pair of functions, and the directories that a run saves."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from trainer.files import sync_directory, sync_file
from trainer.state_dicts import get_model_state, set_model_state, set_optimizer_state

PathOrFile: TypeAlias = str | os.PathLike[str] | IO[bytes]
WEIGHTS_FILE, STATE_FILE, META_FILE = "model.safetensors", "state.pt", "meta.json"
_FORMAT = "scratchlm-checkpoint"
_NAME = re.compile(r"step_(\d{7,})")
_ASIDE = ".aside-"


def save_checkpoint(model: nn.Module, optimizer: Optimizer, step: int, path_or_file: PathOrFile) -> None:
    """Write model, optimizer and step into one file, which `torch.load(weights_only=True)` can read.

    A path is written atomically: a crash leaves the former file or the new one.

    Raises:
        OSError: the path cannot be written.
    """
    content = {"model": get_model_state(model), "optimizer": optimizer.state_dict(), "step": step}
    if not isinstance(path_or_file, str | os.PathLike):
        torch.save(content, path_or_file)
        return
    path = Path(path_or_file)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def load_checkpoint(path_or_file: PathOrFile, model: nn.Module, optimizer: Optimizer | None) -> int:
    """Restore what `save_checkpoint` wrote, and return its step.

    Args:
        path_or_file: a path or a binary file object.
        model: gets the weights, on whatever device it is; compiled or not.
        optimizer: gets its state; None leaves it out, which is enough for inference.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such checkpoint, it is damaged, or it does not fit the model or the optimizer.
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


@dataclass(frozen=True)
class CheckpointContent:
    """An intact checkpoint of a run, on the CPU."""

    path: Path
    model: dict[str, Any]
    optimizer: dict[str, Any]
    training: dict[str, Any]
    """What else `CheckpointStore.save` was given."""


class CheckpointStore:
    """The checkpoints of one run: a directory for each, written aside and renamed, with checksums."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def save(
        self, step: int, model: nn.Module, optimizer: Optimizer, training: dict[str, Any], valid_loss: float | None
    ) -> Path:
        """Save a checkpoint, then remove those that are neither among the last ones nor the best one.

        Raises:
            OSError: there is no room or no permission; the earlier checkpoints are untouched.
        """
        final = self.directory / f"step_{step:07}"
        aside = self.directory / f"{_ASIDE}{final.name}"
        try:
            self.remove_leftovers()
            aside.mkdir(parents=True)
            _write(aside, step, model, optimizer, training, valid_loss)
            if final.exists():  # a damaged one that was trained past again
                final.rename(self.directory / f"{_ASIDE}old-{final.name}")
            aside.rename(final)
            sync_directory(self.directory)
        except (OSError, safetensors.SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            kind = type(error) if isinstance(error, OSError) else OSError
            reason = getattr(error, "strerror", None) or error
            raise kind(
                f"cannot save a checkpoint in {self.directory}: {reason}; free some space or permit it"
            ) from error
        self._prune()
        return final

    def load_latest(self, *, set_aside: bool = True) -> CheckpointContent | None:
        """Return the latest intact checkpoint, or None; damaged ones are named in a warning and renamed `.damaged`."""
        for path in reversed(self._paths()):
            try:
                return _read(path)
            except (ValueError, OSError) as error:
                warnings.warn(
                    f"checkpoint {path} is damaged ({error}); the one before it is used", RuntimeWarning, stacklevel=2
                )
                if set_aside:
                    kept = path.with_name(f"{path.name}.damaged")
                    shutil.rmtree(kept, ignore_errors=True)
                    path.rename(kept)
        return None

    def remove_all(self) -> None:
        """Remove every checkpoint."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half written."""
        for path in self.directory.glob(f"{_ASIDE}*"):
            shutil.rmtree(path)

    def best_first(self) -> list[Path]:
        """Return the complete checkpoints: the best one first, then the others, the latest first."""
        latest_first = list(reversed(self._paths()))
        best = _best(latest_first)
        return [best, *(path for path in latest_first if path != best)] if best else latest_first

    def _paths(self) -> list[Path]:
        found = [path for path in self.directory.glob("step_*") if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))

    def _prune(self) -> None:
        paths = self._paths()
        keep = {*paths[-self.keep :], _best(paths)}
        for path in paths:
            if path not in keep:
                # Renamed first: a directory that is half removed must not look like a checkpoint.
                aside = self.directory / f"{_ASIDE}{path.name}"
                path.rename(aside)
                shutil.rmtree(aside)
        self.remove_leftovers()


def load_weights(model: nn.Module, run_dir: str | os.PathLike[str]) -> int:
    """Load the best checkpoint of a run (lowest validation loss; else the latest) into a model; return its step.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: no checkpoint is intact, or the weights do not fit the model.
    """
    directory = Path(run_dir, "checkpoints")
    paths = CheckpointStore(directory, keep=1).best_first()
    if not paths:
        raise FileNotFoundError(f"no checkpoint in {directory}: expected a run directory whose training has saved one")
    for path in paths:
        try:
            weights = _read(path)
        except (ValueError, OSError) as error:
            warnings.warn(f"checkpoint {path} is damaged ({error}); another is used", RuntimeWarning, stacklevel=2)
            continue
        set_model_state(model, weights.model, str(path))
        return int(path.name.removeprefix("step_"))
    raise ValueError(f"every checkpoint in {directory} is damaged: expected at least one intact; train again")


def _write(
    directory: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    training: dict[str, Any],
    valid_loss: float | None,
) -> None:
    state = get_model_state(model)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    extra = {name: value for name, value in state.items() if name not in tensors}
    safetensors.torch.save_file(dict(_unshared(tensors)), directory / WEIGHTS_FILE, metadata={"format": "pt"})
    torch.save(
        {"optimizer": optimizer.state_dict(), "training": training, "model_extra": extra}, directory / STATE_FILE
    )
    files = (WEIGHTS_FILE, STATE_FILE)
    for name in files:
        sync_file(directory / name)
    meta = {
        "format": _FORMAT,
        "version": 1,
        "step": step,
        "valid_loss": valid_loss,
        "sha256": {name: _sha256(directory / name) for name in files},
    }
    (directory / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    sync_file(directory / META_FILE)
    sync_directory(directory)


def _unshared(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tied weights are written under each of their names: safetensors knows no sharing, and readers want all names."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        plain = tensor.detach().to("cpu").contiguous()
        yield name, plain.clone() if shared or plain.untyped_storage().nbytes() > plain.nbytes else plain


def _read(path: Path) -> CheckpointContent:
    """Read a checkpoint of a run; ValueError or OSError if it is not what was written."""
    for name, expected in _meta(path)["sha256"].items():
        if _sha256(path / name) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
    state = torch.load(path / STATE_FILE, map_location="cpu", weights_only=True)
    weights = safetensors.torch.load_file(path / WEIGHTS_FILE)
    return CheckpointContent(path, weights | state["model_extra"], state["optimizer"], state["training"])


def _meta(path: Path) -> dict[str, Any]:
    meta = json.loads((path / META_FILE).read_text("utf-8"))
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT or not isinstance(meta.get("sha256"), dict):
        raise ValueError(f"{META_FILE} does not describe a checkpoint")
    return meta


def _best(paths: list[Path]) -> Path | None:
    losses: dict[Path, float] = {}
    for path in paths:
        try:
            loss = _meta(path).get("valid_loss")
        except (ValueError, OSError):
            continue
        if isinstance(loss, float):
            losses[path] = loss
    return min(losses, key=lambda path: losses[path], default=None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
