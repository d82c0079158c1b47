"""One checkpoint of a run on the disk: a directory with weights, the rest of the state, and checksums of both."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from trainer.checkpoints.snapshots import count_bytes
from trainer.checkpoints.torch_files import checksum, save_torch
from trainer.support.files import sync_directory, sync_file

WEIGHTS_FILE, STATE_FILE, META_FILE = "model.safetensors", "state.pt", "meta.json"
_FORMAT, _VERSION = "scratchlm-checkpoint", 1


@dataclass(frozen=True)
class CheckpointState:
    """What one checkpoint holds, all of the same moment."""

    step: int
    model: dict[str, Any]
    """The model's state under plain names."""
    optimizer: dict[str, Any]
    training: dict[str, Any]
    """What else a resumed run needs; plain values and tensors."""
    valid_loss: float | None = None
    """The validation loss at this step, if it was evaluated."""
    seconds_training: float = 0.0
    """Seconds of training until this step."""

    def num_bytes(self) -> int:
        """About how many bytes the checkpoint takes on the disk."""
        # Tied weights are written under each of their names.
        weights = sum(count_bytes(value) for value in self.model.values())
        return weights + count_bytes({"optimizer": self.optimizer, "training": self.training})


@dataclass(frozen=True)
class CheckpointContent:
    """An intact checkpoint of a run, on the CPU."""

    path: Path
    model: dict[str, Any]
    optimizer: dict[str, Any]
    training: dict[str, Any]
    """What else `CheckpointStore.save` was given."""


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was written; the message says in what."""


def write_checkpoint(directory: Path, state: CheckpointState) -> None:
    """Write a checkpoint into an empty directory and flush it to the disk.

    Raises:
        OSError: there is no room or no permission.
    """
    tensors = {name: value for name, value in state.model.items() if isinstance(value, torch.Tensor)}
    try:
        safetensors.torch.save_file(dict(_unshared(tensors)), directory / WEIGHTS_FILE, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:  # which is how it tells of a full disk
        raise OSError(str(error)) from error
    sync_file(directory / WEIGHTS_FILE)
    rest = replace(state, model={name: value for name, value in state.model.items() if name not in tensors})
    write_state_and_meta(directory, rest, {WEIGHTS_FILE: checksum(directory / WEIGHTS_FILE)})


def write_state_and_meta(
    directory: Path, state: CheckpointState, checksums: dict[str, tuple[int, str]], *, sharded: int | None = None
) -> None:
    """Write what is left of a checkpoint when its large tensors are written.

    Args:
        directory: of the checkpoint.
        state: all but those tensors.
        checksums: bytes and checksum of each file that is there already.
        sharded: how many processes have written those files, if it was not one.

    Raises:
        OSError: there is no room or no permission.
    """
    rest = {"optimizer": state.optimizer, "training": state.training, "model_extra": state.model}
    with (directory / STATE_FILE).open("wb") as file:
        save_torch(rest, file)
    sync_file(directory / STATE_FILE)
    checksums = {**checksums, STATE_FILE: checksum(directory / STATE_FILE)}
    meta: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "step": state.step,
        "valid_loss": state.valid_loss,
        "seconds_training": state.seconds_training,
        "bytes": {name: size for name, (size, _) in checksums.items()},
        "sha256": {name: sha256 for name, (_, sha256) in checksums.items()},
    }
    if sharded is not None:
        meta["sharded"] = sharded
    meta["checksum"] = _checksum_of(meta)
    (directory / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    sync_file(directory / META_FILE)
    sync_directory(directory)


def read_checkpoint(path: Path) -> CheckpointContent:
    """Read a checkpoint and verify it.

    Raises:
        DamagedCheckpointError: it is not what was written.
        ValueError: a newer version of this package wrote it.
        OSError: it cannot be read.
    """
    if verify(path).get("sharded"):
        from trainer.checkpoints.sharded import read_whole

        return read_whole(path)
    return read_verified(path)


def read_verified(path: Path) -> CheckpointContent:
    """Read a checkpoint that is verified already, and not sharded."""
    state = load_state(path, mapped=False)
    return CheckpointContent(path, _load_weights(path) | state["model_extra"], state["optimizer"], state["training"])


def read_model(path: Path) -> dict[str, Any]:
    """Read and verify a checkpoint, and return the model's state alone; the optimizer's is never in memory.

    Raises:
        DamagedCheckpointError, ValueError, OSError: as `read_checkpoint`.
    """
    if verify(path).get("sharded"):
        from trainer.checkpoints.sharded import read_whole

        return read_whole(path, model_only=True).model
    return _load_weights(path) | load_state(path, mapped=os.name == "posix")["model_extra"]


def read_meta(path: Path) -> dict[str, Any]:
    """Return what `meta.json` of a checkpoint says: step, valid_loss, seconds_training, bytes, sha256.

    Raises:
        DamagedCheckpointError: it is missing, the disk cannot read it, or it says nothing of that kind.
        ValueError: a newer version of this package wrote it.
        OSError: it cannot be read.
    """
    try:
        meta = json.loads((path / META_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{META_FILE} is missing") from error
    except ValueError as error:
        raise DamagedCheckpointError(f"{META_FILE} is not JSON") from error
    except OSError as error:
        raise _damage(error, META_FILE) from error
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise DamagedCheckpointError(f"{META_FILE} does not describe a checkpoint")
    if meta.get("version") != _VERSION:
        raise ValueError(
            f"checkpoint {path} has version {meta.get('version')!r} of the format, expected {_VERSION}: "
            "use the version of this package that wrote it"
        )
    expected = {STATE_FILE} if meta.get("sharded") else {WEIGHTS_FILE, STATE_FILE}
    if not isinstance(meta.get("sha256"), dict) or not expected <= meta["sha256"].keys():
        raise DamagedCheckpointError(f"{META_FILE} has no checksums of the other files")
    if "checksum" in meta and meta["checksum"] != _checksum_of(meta):
        raise DamagedCheckpointError(f"the checksum of {META_FILE} is wrong")
    return meta


def _unshared(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tied weights are written under each of their names: safetensors knows no sharing, and readers want all names."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        plain = tensor.detach().to("cpu").contiguous()
        yield name, plain.clone() if shared or plain.untyped_storage().nbytes() > plain.nbytes else plain


def verify(path: Path) -> dict[str, Any]:
    """Check that a checkpoint is what was written, and return what `meta.json` says.

    Raises:
        DamagedCheckpointError, ValueError, OSError: as `read_checkpoint`.
    """
    meta = read_meta(path)
    sizes = meta.get("bytes", {})
    for name, expected in meta["sha256"].items():
        try:
            size = (path / name).stat().st_size
            if size != sizes.get(name, size):
                raise DamagedCheckpointError(f"{name} has {size:,} bytes, expected {sizes[name]:,}")
            if checksum(path / name)[1] != expected:
                raise DamagedCheckpointError(f"the checksum of {name} is wrong")
        except FileNotFoundError as error:
            raise DamagedCheckpointError(f"{name} is missing") from error
        except OSError as error:
            raise _damage(error, name) from error
    return meta


def _load_weights(path: Path) -> dict[str, Any]:
    try:
        return safetensors.torch.load_file(path / WEIGHTS_FILE)
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(f"{WEIGHTS_FILE} cannot be read: {error}") from error


def load_state(path: Path, *, mapped: bool) -> dict[str, Any]:
    """Return the optimizer's state, what else training needs, and what of the model are no large tensors."""
    try:
        state = torch.load(path / STATE_FILE, map_location="cpu", weights_only=True, mmap=mapped)
        return {name: state[name] for name in ("optimizer", "training", "model_extra")}
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedCheckpointError(f"{STATE_FILE} cannot be read: {reason}") from error


def _damage(error: OSError, name: str) -> Exception:
    """What an error in reading a file means: the disk has lost it, or else, such as for want of permission, itself."""
    return DamagedCheckpointError(f"the disk cannot read {name}") if error.errno == errno.EIO else error


def _checksum_of(meta: dict[str, Any]) -> str:
    """The checksum that `meta.json` has of its own other values."""
    values = {name: value for name, value in meta.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
