"""Reading weights from model.safetensors, or from the shards listed in model.safetensors.index.json."""

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nnscratch.interchange.files import read_object

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATING = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
# Tables of angles that transformers saved before version 4.32; rope_theta determines them.
_DERIVED = ".self_attn.rotary_emb.inv_freq"


class StoredTensor(NamedTuple):
    """Shape and dtype of a tensor according to the header of its file."""

    shape: tuple[int, ...]
    dtype: str


def find_shards(directory: Path) -> list[Path]:
    """Return the files with the weights in a directory.

    Raises:
        FileNotFoundError: If there are none, or a shard is missing.
        ValueError: If the index is damaged or names a file outside the directory.
    """
    if (directory / _SINGLE).is_file():
        return [directory / _SINGLE]
    index = directory / _INDEX
    if not index.is_file():
        raise FileNotFoundError(
            f"no file {_SINGLE} or {_INDEX} in {str(directory)!r}; pickled weights (pytorch_model.bin) are not read, "
            f"so save the model with transformers as safetensors"
        )
    shards = sorted(directory / name for name in set(_weight_map(index).values()))
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"no file {str(shard)!r}, which {_INDEX} lists; fetch all shards")
    return shards


def _weight_map(index: Path) -> dict[str, str]:
    files = read_object(index, "fetch or save the model again").get("weight_map")
    if not isinstance(files, dict) or not files:
        raise ValueError(
            f"{str(index)!r} has no weight_map, expected names with their files; fetch or save the model again"
        )
    for name in files.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{str(index)!r} lists {name!r}, expected a .safetensors file in the same directory; do not trust it"
            )
    return files


def read_headers(shards: list[Path]) -> dict[str, StoredTensor]:
    """Return shapes and dtypes of all tensors in the files, without reading values.

    Raises:
        ValueError: If a file is damaged, or two files hold the same tensor.
    """
    found: dict[str, StoredTensor] = {}
    for shard in shards:
        try:
            with safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dictionary
                    if name in found:
                        raise ValueError(
                            f"{str(shard)!r} has {name}, which is in another shard too; fetch the model again"
                        )
                    view = file.get_slice(name)
                    found[name] = StoredTensor(tuple(view.get_shape()), view.get_dtype())
        except SafetensorError as error:
            raise ValueError(f"{str(shard)!r} is not safetensors ({error}); fetch or save it again") from error
    return found


def check_names_and_shapes(
    directory: Path, stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], optional: set[str]
) -> torch.dtype:
    """Check stored tensors against the parameters of a model, and return the narrowest dtype that represents them all.

    Args:
        directory: Directory of the files, for messages.
        stored: Headers of the stored tensors.
        expected: Shapes of the parameters by their names in the files, (rows, columns).
        optional: Names of parameters that may be absent.

    Raises:
        ValueError: If parameters are missing, unexpected, of the wrong shape or not floating point.
    """
    used = {name for name in stored if not name.endswith(_DERIVED)}
    if missing := sorted(expected.keys() - optional - used):
        raise ValueError(f"the weights in {str(directory)!r} lack {_some(missing)}; fetch or save the model again")
    if unexpected := sorted(used - expected.keys()):
        raise ValueError(
            f"the weights in {str(directory)!r} have {_some(unexpected)}, which config.json does not account for; "
            f"check that both belong to one model"
        )
    for name in sorted(used):
        if stored[name].shape != expected[name]:
            raise ValueError(
                f"{name} in {str(directory)!r} has shape {stored[name].shape}, expected {expected[name]} from "
                f"config.json; check that both belong to one model"
            )
        if stored[name].dtype not in _FLOATING:
            raise ValueError(
                f"{name} in {str(directory)!r} has dtype {stored[name].dtype}, expected one of "
                f"{', '.join(_FLOATING)}; save the model without quantization"
            )
    return reduce(torch.promote_types, (_FLOATING[stored[name].dtype] for name in used))


def read_tensors(shards: list[Path], names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in the files that have one of the names."""
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                if name in names:
                    yield name, file.get_tensor(name)


def _some(names: list[str]) -> str:
    """Return the first three names and the number of the others."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
