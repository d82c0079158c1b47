"""One checkpoint of a run on the disk: weights, state of the optimizer, state of everything else, and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import safetensors
import safetensors.torch
import torch

from trainer.checkpoints.state_dicts import storable
from trainer.support.files import sync_directory, sync_file

WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.pt", "state.pt"
META_FILE = "meta.json"
_FORMAT, _VERSION = "scratchlm-checkpoint", 3
_FILES = {2: {WEIGHTS_FILE, STATE_FILE}, 3: {WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE}}
"""Files with checksums in each version that can be read; in version 2 `state.pt` has the optimizer's state, too."""

Checksums: TypeAlias = dict[str, tuple[int, str]]
"""Bytes and SHA-256 of files, by name."""


@dataclass(frozen=True)
class CheckpointState:
    """Content of a checkpoint, all of the same moment; what is read back is on the CPU."""

    step: int
    model: dict[str, Any]
    """State of the model under plain names."""
    optimizer: dict[str, Any]
    training: dict[str, Any]
    """State of everything else; plain values and tensors."""
    valid_loss: float | None = None
    """Loss of the whole validation split at this step, if it was evaluated."""
    seconds_training: float = 0.0
    """Seconds of training up to this step."""
    path: Path | None = None
    """Where it was read; None before it is written."""

    def num_bytes(self) -> int:
        """Return about how many bytes the checkpoint takes on the disk."""
        # Tied weights are written under each of their names.
        weights = sum(count_bytes(value) for value in self.model.values())
        return weights + count_bytes({"optimizer": self.optimizer, "training": self.training})


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was written; the message names the difference."""


def write_tensors(directory: Path, state: CheckpointState) -> Checksums:
    """Write weights and optimizer, nearly all bytes of a checkpoint, into an empty directory, flushed to the disk.

    Raises:
        TypeError: If the state holds something that could not be read again.
        OSError: If there is no space or no permission.
    """
    tensors = {name: value for name, value in state.model.items() if isinstance(value, torch.Tensor)}
    try:
        safetensors.torch.save_file(dict(_unshared(tensors)), directory / WEIGHTS_FILE, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:  # a full disk, too
        raise OSError(str(error)) from error
    with (directory / OPTIMIZER_FILE).open("wb") as file:
        save_torch({"optimizer": state.optimizer}, file)
    shutil.copymode(directory / OPTIMIZER_FILE, directory / WEIGHTS_FILE)  # safetensors 0.8 lets only the owner read
    return _flush(directory / WEIGHTS_FILE, directory / OPTIMIZER_FILE)


def write_rest(directory: Path, state: CheckpointState, written: Checksums) -> None:
    """Write everything else beside weights and optimizer, and flush it to the disk; `meta.json` comes last.

    Args:
        directory: Where `write_tensors` has written.
        state: State with the same weights and optimizer.
        written: What `write_tensors` returned.

    Raises:
        TypeError: If the state holds something that could not be read again.
        OSError: If there is no space or no permission.
    """
    extra = {name: value for name, value in state.model.items() if not isinstance(value, torch.Tensor)}
    with (directory / STATE_FILE).open("wb") as file:
        save_torch({"training": state.training, "model_extra": extra}, file)
    files = written | _flush(directory / STATE_FILE)
    meta: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "step": state.step,
        "valid_loss": state.valid_loss,
        "seconds_training": state.seconds_training,
        "bytes": {name: size for name, (size, _) in files.items()},
        "sha256": {name: checksum for name, (_, checksum) in files.items()},
    }
    meta["checksum"] = _checksum_of(meta)
    (directory / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    sync_file(directory / META_FILE)
    sync_directory(directory)


def read_checkpoint(path: Path) -> CheckpointState:
    """Read a checkpoint and verify it.

    Raises:
        DamagedCheckpointError: If it is not what was written.
        ValueError: If another version of this package wrote it.
        OSError: If it cannot be read.
    """
    verify(path)
    return read_verified(path)


def read_verified(path: Path) -> CheckpointState:
    """Read a checkpoint that has been verified already."""
    meta = read_meta(path)
    state = _load(path, STATE_FILE, ("training", "model_extra"), mapped=False)
    rest = _load(path, OPTIMIZER_FILE if OPTIMIZER_FILE in meta["sha256"] else STATE_FILE, ("optimizer",), mapped=False)
    model = read_weights(path) | state["model_extra"]
    return CheckpointState(
        int(meta["step"]),
        model,
        rest["optimizer"],
        state["training"],
        meta["valid_loss"],
        meta["seconds_training"],
        path,
    )


def read_model(path: Path) -> dict[str, Any]:
    """Read and verify a checkpoint, and return the model's state alone; the optimizer's is never in memory.

    Raises:
        DamagedCheckpointError, ValueError, OSError: As `read_checkpoint`.
    """
    verify(path)
    return read_weights(path) | _load(path, STATE_FILE, ("model_extra",), mapped=os.name == "posix")["model_extra"]


def read_meta(path: Path) -> dict[str, Any]:
    """Return the values in `meta.json` of a checkpoint: step, valid_loss, seconds_training, bytes, sha256.

    Raises:
        DamagedCheckpointError: If the file is missing, the disk cannot read it, or it is something else.
        ValueError: If another version of this package wrote it.
        OSError: If it cannot be read.
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
    if meta.get("version") not in _FILES:
        raise ValueError(
            f"checkpoint {path} has version {meta.get('version')!r} of the format, expected {_VERSION} or 2: use the "
            "version of this package that wrote it (environment.json of the run names it), or train in another run "
            "directory"
        )
    if not isinstance(meta.get("sha256"), dict) or not _FILES[meta["version"]] <= meta["sha256"].keys():
        raise DamagedCheckpointError(f"{META_FILE} has no checksums of the other files")
    if meta.get("checksum") != _checksum_of(meta):
        raise DamagedCheckpointError(f"the checksum of {META_FILE} is wrong")
    return meta


def verify(path: Path) -> None:
    """Check that a checkpoint is what was written.

    Raises:
        DamagedCheckpointError, ValueError, OSError: As `read_checkpoint`.
    """
    meta = read_meta(path)
    for name, expected in meta["sha256"].items():
        try:
            size = (path / name).stat().st_size
            if size != meta["bytes"][name]:
                raise DamagedCheckpointError(f"{name} has {size:,} bytes, expected {meta['bytes'][name]:,}")
            if _checksum(path / name) != expected:
                raise DamagedCheckpointError(f"the checksum of {name} is wrong")
        except FileNotFoundError as error:
            raise DamagedCheckpointError(f"{name} is missing") from error
        except OSError as error:
            raise _damage(error, name) from error


def save_torch(content: dict[str, Any], file: IO[bytes]) -> None:
    """Call `torch.save` on an open file, and raise the file's own error when it cannot be written.

    Raises:
        TypeError: If the content holds something that could not be read again.
        OSError: If there is no space; torch by itself would raise a RuntimeError about positions.
    """
    plain = {name: storable(value, name) for name, value in content.items()}
    watched = _WatchedFile(file)
    try:
        torch.save(plain, cast(IO[bytes], watched))
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise


class _WatchedFile:
    """Passes bytes on to a file and remembers its error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def count_bytes(state: Any) -> int:
    """Return the bytes of all tensors in a nested state; tensors that share their memory count once."""
    sizes: dict[tuple[Any, ...], int] = {}
    _collect_sizes(state, sizes)
    return sum(sizes.values())


def _collect_sizes(value: Any, sizes: dict[tuple[Any, ...], int]) -> None:
    if isinstance(value, torch.Tensor):
        is_plain = type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided
        memory: tuple[Any, ...] = (value.device, value.data_ptr()) if is_plain else (id(value),)
        sizes[memory] = max(sizes.get(memory, 0), value.numel() * value.element_size())
    elif isinstance(value, dict):
        for item in value.values():
            _collect_sizes(item, sizes)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect_sizes(item, sizes)


def _unshared(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tied weights under each of their names: safetensors knows no sharing, and readers want all names."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        plain = tensor.detach().to("cpu").contiguous()
        yield name, plain.clone() if shared or plain.untyped_storage().nbytes() > plain.nbytes else plain


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors in a directory's `model.safetensors`, without verifying a checksum.

    Raises:
        DamagedCheckpointError: If the file is something else.
        OSError: If it cannot be read.
    """
    try:
        return safetensors.torch.load_file(path / WEIGHTS_FILE)
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(f"{WEIGHTS_FILE} cannot be read: {error}") from error


def _load(path: Path, file: str, names: Sequence[str], *, mapped: bool) -> dict[str, Any]:
    """Return the states with these names from a file of a checkpoint."""
    try:
        state = torch.load(path / file, map_location="cpu", weights_only=True, mmap=mapped)
        return {name: state[name] for name in names}
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedCheckpointError(f"{file} cannot be read: {reason}") from error


def _damage(error: OSError, name: str) -> Exception:
    """Return a damage if the disk has lost the file, else the error itself, such as missing permission."""
    return DamagedCheckpointError(f"the disk cannot read {name}") if error.errno == errno.EIO else error


def _flush(*paths: Path) -> Checksums:
    """Flush written files to the disk, and return their checksums."""
    for path in paths:
        sync_file(path)
    return {path.name: (path.stat().st_size, _checksum(path)) for path in paths}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_of(meta: dict[str, Any]) -> str:
    """Return the checksum of the other values of `meta.json`, which it holds itself."""
    values = {name: value for name, value in meta.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
