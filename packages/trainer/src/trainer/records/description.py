"""Description of a run in plain values: a run resumes only under the same description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainer.config import TrainConfig
from trainer.data import TokenSplit
from trainer.records.functions import describe_function
from trainer.records.run_directory import RUN_FORMAT

_WHOLE_TOKENS = 1 << 24  # up to here all ids count, which takes a tenth of a second
_FINGERPRINT_TOKENS = 1 << 16
_FINGERPRINT_SAMPLES, _SAMPLE_TOKENS = 256, 256


def describe_run(
    config: TrainConfig,
    model: nn.Module,
    optimizer: Optimizer,
    train_data: TokenSplit,
    valid_data: TokenSplit,
    recorded: Mapping[str, Any],
    functions: Mapping[str, object],
) -> dict[str, Any]:
    """Return the contents of `config.json`.

    Args:
        config: Settings of the run.
        model: The model.
        optimizer: The optimizer.
        train_data: The training split.
        valid_data: The validation split.
        recorded: Further values of the caller.
        functions: Functions of the caller by name, of which digests are recorded.

    Raises:
        ValueError: If `recorded` does not consist of plain JSON values.
    """
    try:
        recorded = json.loads(json.dumps(dict(recorded), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"recorded cannot be written as JSON ({error}): expected plain values with finite numbers"
        ) from error
    return {
        "version": RUN_FORMAT,
        "train": json.loads(json.dumps(asdict(config))),
        "model": {"class": type(model).__qualname__, "parameters": count_parameters(model)},
        "optimizer": {
            "class": type(optimizer).__qualname__,
            "groups": {str(index): _group(group) for index, group in enumerate(optimizer.param_groups)},
        },
        "data": {"train": _fingerprint(train_data), "valid": _fingerprint(valid_data)},
        "recorded": recorded,
        "functions": {name: describe_function(function) for name, function in functions.items()},
    }


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a parameter group without "lr", which the schedule sets."""
    plain = {
        name: value
        for name, value in group.items()
        if name not in ("params", "lr") and isinstance(value, bool | int | float | str | tuple | list | None)
    }
    try:
        settings = json.loads(json.dumps(plain))
    except TypeError:  # a list of something else
        settings = {name: repr(value) for name, value in plain.items()}
    return {**settings, "parameters": len(group["params"])}


def _fingerprint(split: TokenSplit) -> dict[str, Any]:
    """Return lengths and checksums of samples of a split, which show other data; its paths do not matter."""
    parts = [_fingerprint_part(split, part, length) for part, length in enumerate(split.lengths)]
    if split.examples is not None:
        return {**parts[0], "examples": len(split.examples), "sha256_of_examples": split.examples.sha256}
    return parts[0] if len(parts) == 1 else {str(number): part for number, part in enumerate(parts)}


def _fingerprint_part(split: TokenSplit, part: int, length: int) -> dict[str, Any]:
    """Return the length of a part, and its checksum; of a long one, that of both ends and of samples between them."""
    digest, size, sample = hashlib.sha256(), min(length, _FINGERPRINT_TOKENS), min(length, _SAMPLE_TOKENS)
    if length <= _WHOLE_TOKENS:
        for begin in range(0, length, _FINGERPRINT_TOKENS):
            ids = split.read_range(part, begin, min(_FINGERPRINT_TOKENS, length - begin))
            digest.update(ids.astype("<u4").tobytes())
        return {"tokens": length, "sha256_of_samples": digest.hexdigest()}
    between = [number * (length - sample) // _FINGERPRINT_SAMPLES for number in range(1, _FINGERPRINT_SAMPLES)]
    for begin, tokens in [(0, size), (length - size, size), *((begin, sample) for begin in between)]:
        digest.update(split.read_range(part, begin, tokens).astype("<u4").tobytes())
    return {"tokens": length, "sha256_of_samples": digest.hexdigest()}
