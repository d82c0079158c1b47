"""Checkpoints: one directory per step, complete or absent, checked when read."""

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.files import directory_appearing, write_atomically

WEIGHTS, STATE, META = "model.safetensors", "state.pt", "meta.json"


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile and DistributedDataParallel put into it."""
    parts = [part for part in name.split(".") if part != "_orig_mod"]
    return ".".join(parts[1:] if parts[0] == "module" and len(parts) > 1 else parts)


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict under plain names."""
    return {plain_name(name): tensor for name, tensor in model.state_dict().items()}


def load_plain_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors under plain names into a model, wrapped or not; ValueError if names or shapes do not fit."""
    names = {plain_name(name): name for name in model.state_dict()}
    try:
        model.load_state_dict({names.get(plain_name(name), name): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"the checkpoint does not fit the model: {' '.join(str(error).split())}") from None


def save_checkpoint(model: nn.Module, optimizer: Optimizer, step: int, path_or_file: str | Path | IO[bytes]) -> None:
    """Write model, optimizer and step into one file (the assignment's problem checkpointing).

    Args:
        model: its weights are written under plain names.
        optimizer: its state is written.
        step: iterations done.
        path_or_file: a path, which appears complete or not at all, or a binary file.
    """
    content = {"model": plain_state_dict(model), "optimizer": optimizer.state_dict(), "step": step}
    if isinstance(path_or_file, str | Path):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(Path(path_or_file), buffer.getvalue())
    else:
        torch.save(content, path_or_file)


def load_checkpoint(path_or_file: str | Path | IO[bytes], model: nn.Module, optimizer: Optimizer) -> int:
    """Read what `save_checkpoint` wrote into a model and an optimizer, and return the step.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or does not fit the model.
    """
    if isinstance(path_or_file, str | Path) and not Path(path_or_file).is_file():
        raise FileNotFoundError(f"{path_or_file}: there is no such checkpoint")
    try:
        content = torch.load(path_or_file, map_location="cpu", weights_only=True)
        tensors, state, step = content["model"], content["optimizer"], content["step"]
    except Exception as error:
        raise ValueError(f"{path_or_file} is no checkpoint of save_checkpoint, or damaged: {_line(error)}") from None
    load_plain_state_dict(model, tensors)
    optimizer.load_state_dict(state)
    return int(step)


class CheckpointDirectory:
    """The checkpoints of one run: `step_0005000/` with the weights, the state to resume from, and checksums."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        return sorted(int(path.name.removeprefix("step_")) for path in self.directory.glob("step_*"))

    def path(self, step: int) -> Path:
        """The directory of a step's checkpoint."""
        return self.directory / f"step_{step:07d}"

    def save(self, step: int, model: nn.Module, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete old ones: the last `keep` and the one of the best validation loss stay.

        Args:
            step: steps done.
            model: written under plain names.
            state: what else is needed to go on; loadable with `weights_only=True`.
            meta: facts for people and for choosing, as JSON; "valid_loss" decides which is best.
        """
        from safetensors.torch import save_file

        with directory_appearing(self.path(step)) as building:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _unshared(model).items()}
            save_file(tensors, building / WEIGHTS, metadata={"format": "pt"})
            torch.save(dict(state), building / STATE)
            checksums = {name: _digest(building / name) for name in (WEIGHTS, STATE)}
            (building / META).write_text(json.dumps({**meta, "step": step, "sha256": checksums}, indent=2) + "\n")
        self._delete_old()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]] | None:
        """The newest sound checkpoint as (weights, state, meta); None if there is none.

        A damaged one is named in a warning, and the one before it is taken.
        """
        for step in reversed(self.steps()):
            path = self.path(step)
            try:
                meta = read_meta(path)
                weights = _read_weights(path, meta)
                _check_digest(path / STATE, meta)
                return weights, torch.load(path / STATE, map_location="cpu", weights_only=True), meta
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
                # Training goes on before this point and will write it again; until then nobody should take it for good.
                path.rename(path.with_name(f"damaged_{path.name}"))
        return None

    def best(self) -> Path | None:
        """The checkpoint with the lowest validation loss, the newest if none has one; None without any."""
        steps = self.steps()
        losses = {step: read_meta(self.path(step)).get("valid_loss") for step in steps}
        scored = [step for step in steps if losses[step] is not None]
        if scored:
            return self.path(min(scored, key=lambda step: losses[step]))
        return self.path(steps[-1]) if steps else None

    def _delete_old(self) -> None:
        best = self.best()
        for step in self.steps()[: -self.keep]:
            if self.path(step) != best:
                shutil.rmtree(self.path(step))


def load_weights(model: nn.Module, run_dir: str | Path) -> int:
    """Load the best checkpoint's weights of a run into a model, and return its step.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: the checkpoint is damaged or does not fit the model.
    """
    best = CheckpointDirectory(Path(run_dir) / "checkpoints").best()
    if best is None:
        raise FileNotFoundError(f"{run_dir} has no checkpoint: expected a run directory of the trainer")
    meta = read_meta(best)
    weights = _read_weights(best, meta)
    load_plain_state_dict(model, _shared(model, weights))
    return int(meta["step"])


def read_meta(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint; ValueError if they are unreadable."""
    try:
        return json.loads((path / META).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path / META} is damaged: {_line(error)}") from None


def restore(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's weights into a model, shared tensors included."""
    load_plain_state_dict(model, _shared(model, weights))


def _read_weights(path: Path, meta: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    _check_digest(path / WEIGHTS, meta)
    return load_file(path / WEIGHTS)


def _unshared(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with each storage once, since safetensors refuses to write one twice."""
    seen: set[tuple[int, torch.Size, int]] = set()
    kept = {}
    for name, tensor in plain_state_dict(model).items():
        key = (tensor.untyped_storage().data_ptr(), tensor.shape, tensor.storage_offset())
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        kept[name] = tensor
    return kept


def _shared(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_unshared`: names that share a storage with one that is there get the same tensor."""
    by_storage = {}
    state = plain_state_dict(model)
    for name, tensor in state.items():
        if name in weights:
            by_storage[tensor.untyped_storage().data_ptr()] = weights[name]
    missing = {
        name: by_storage[tensor.untyped_storage().data_ptr()]
        for name, tensor in state.items()
        if name not in weights and tensor.untyped_storage().data_ptr() in by_storage
    }
    return {**weights, **missing}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, meta: Mapping[str, Any]) -> None:
    if _digest(path) != meta["sha256"][path.name]:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {META}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
