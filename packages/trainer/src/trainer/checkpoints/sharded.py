"""Checkpoints of which every process writes its part, through `torch.distributed.checkpoint`.

They lie in directories like the others, with the same `state.pt` and `meta.json`; only the divided tensors are in files
of torch's own (`.metadata`, `__0_0.distcp`, …) instead of `model.safetensors`. Any number of processes reads them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from trainer.checkpoints.directory import (
    CheckpointContent,
    CheckpointState,
    DamagedCheckpointError,
    load_state,
    write_state_and_meta,
)
from trainer.checkpoints.state_dicts import get_model_state
from trainer.checkpoints.store import CheckpointStore
from trainer.checkpoints.torch_files import checksum
from trainer.distributed.processes import Processes

_MODEL, _OPTIMIZER, _AVERAGE = "model.", "optimizer.", "average."
_METADATA = ".metadata"


def write_sharded(store: CheckpointStore, state: CheckpointState, processes: Processes) -> None:
    """Write a checkpoint of all processes, which all have to call this; complete or not at all.

    Raises:
        OSError: there is no room or no permission for one of them; the earlier checkpoints are untouched.
    """
    tensors, rest = _divide(state)
    aside = processes.from_writer(lambda: store.begin(state.step))
    try:
        save(tensors, storage_writer=FileSystemWriter(aside), process_group=processes.messages)
    except CheckpointException as error:
        processes.from_writer(store.remove_leftovers)
        raise store.explain(OSError(_reason(error))) from error
    own = [path for path in aside.iterdir() if path.name.startswith(f"__{processes.rank}_")]
    if processes.is_writer:
        own.append(aside / _METADATA)
    parts = processes.gather({path.name: checksum(path) for path in own})

    def complete() -> None:
        checksums = {name: value for part in parts for name, value in sorted(part.items())}
        store.complete(aside, lambda: write_state_and_meta(aside, rest, checksums, sharded=processes.world_size))

    processes.from_writer(complete)


def read_whole(path: Path, *, model_only: bool = False) -> CheckpointContent:
    """Read a sharded checkpoint in one process, without a process group.

    Raises:
        DamagedCheckpointError: it is not what was written.
    """
    reader = _open(path)
    wanted = (_MODEL,) if model_only else (_MODEL, _OPTIMIZER, _AVERAGE)
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in _entries(reader)
        if name.startswith(wanted)
    }
    _load(path, tensors, reader, None)
    return _content(path, tensors)


def read_sharded(path: Path, model: torch.nn.Module, optimizer: Optimizer, processes: Processes) -> CheckpointContent:
    """Read a sharded checkpoint as tensors that are divided like the model's, of which each process reads its part.

    Raises:
        DamagedCheckpointError: it is not what was written.
    """
    reader = _open(path)
    own = {f"{prefix}{name}": value for prefix in (_MODEL, _AVERAGE) for name, value in get_model_state(model).items()}
    numbered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in _entries(reader):
        example: Any = own.get(name)
        if name.startswith(_OPTIMIZER) and (number := int(name.split(".")[1])) < len(numbered):
            example = numbered[number]
        if isinstance(example, DTensor) and example.shape == entry.size:
            tensors[name] = torch.empty_like(example, dtype=entry.properties.dtype).detach()
        else:
            tensors[name] = torch.empty(entry.size, dtype=entry.properties.dtype)
    _load(path, tensors, reader, processes)
    return _content(path, tensors)


def _divide(state: CheckpointState) -> tuple[dict[str, torch.Tensor], CheckpointState]:
    """Split a state into its divided tensors under flat names, and the rest."""
    tensors: dict[str, torch.Tensor] = {}
    model: dict[str, Any] = {}
    for name, value in state.model.items():
        if isinstance(value, DTensor):
            tensors[f"{_MODEL}{name}"] = value.detach()
        else:
            model[name] = value
    numbered: dict[int, dict[str, Any]] = {}
    for number, values in state.optimizer["state"].items():
        numbered[number] = {}
        for name, value in values.items():
            if isinstance(value, DTensor):
                tensors[f"{_OPTIMIZER}{number}.{name}"] = value.detach()
            else:
                numbered[number][name] = value
    average: dict[str, Any] = {}
    for name, value in state.training.get("average", {}).items():
        if isinstance(value, DTensor):
            tensors[f"{_AVERAGE}{name}"] = value.detach()
        else:
            average[name] = value
    training = state.training | ({"average": average} if "average" in state.training else {})
    return tensors, replace(state, model=model, optimizer={**state.optimizer, "state": numbered}, training=training)


def _content(path: Path, tensors: dict[str, torch.Tensor]) -> CheckpointContent:
    """Put the divided tensors back to where they belong."""
    rest = load_state(path, mapped=False)
    model, optimizer = dict(rest["model_extra"]), rest["optimizer"]
    for name, value in tensors.items():
        if name.startswith(_MODEL):
            model[name.removeprefix(_MODEL)] = value
        elif name.startswith(_AVERAGE):
            rest["training"]["average"][name.removeprefix(_AVERAGE)] = value
        else:
            _, number, short = name.split(".", 2)
            optimizer["state"][int(number)][short] = value
    return CheckpointContent(path, model, optimizer, rest["training"])


def _entries(reader: FileSystemReader) -> Iterator[tuple[str, TensorStorageMetadata]]:
    for name, entry in reader.read_metadata().state_dict_metadata.items():
        if isinstance(entry, TensorStorageMetadata):
            yield name, entry


def _open(path: Path) -> FileSystemReader:
    try:
        with (path / _METADATA).open("rb") as file:
            _PlainUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
        raise DamagedCheckpointError(f"{_METADATA} cannot be read: {error}") from error
    return FileSystemReader(path)


def _load(path: Path, tensors: dict[str, torch.Tensor], reader: FileSystemReader, processes: Processes | None) -> None:
    try:
        _load_state_dict(
            tensors, reader, process_group=processes.messages if processes else None, no_dist=processes is None
        )
    except CheckpointException as error:
        raise DamagedCheckpointError(f"its parts cannot be read: {_reason(error)}") from error


def _reason(error: CheckpointException) -> str:
    reason, _ = next(iter(error.failures.values()))
    return f"{type(reason).__name__}: {reason}"


class _PlainUnpickler(pickle.Unpickler):
    """Reads torch's `.metadata` as far as it is made of descriptions of tensors: a pickle could run anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the classes that describe tensors.

        Raises:
            pickle.UnpicklingError: it is none of them.
        """
        if module.startswith("torch.distributed.checkpoint.") or module in ("pathlib", "collections"):
            return super().find_class(module, name)
        if module == "torch.serialization" and name == "_get_layout":
            return super().find_class(module, name)
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")
