"""What a run is, in plain values: a run resumes only under the same description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from torch import nn
from torch.optim import Optimizer

from trainer.config import TrainConfig
from trainer.data import TokenArray, TokenDataset

TokenSource: TypeAlias = TokenDataset | TokenArray
_FINGERPRINT_TOKENS = 1 << 16


def describe_run(
    config: TrainConfig,
    model: nn.Module,
    optimizer: Optimizer,
    train_data: TokenSource,
    valid_data: TokenSource,
    recorded: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what `config.json` says.

    Raises:
        ValueError: `recorded` is not made of plain JSON values.
    """
    try:
        recorded = json.loads(json.dumps(dict(recorded), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"recorded cannot be written as JSON ({error}): expected plain values with finite numbers"
        ) from error
    return {
        "train": asdict(config),
        "model": {"class": type(model).__qualname__, "parameters": count_parameters(model)},
        "optimizer": {
            "class": type(optimizer).__qualname__,
            "groups": {str(index): _group(group) for index, group in enumerate(optimizer.param_groups)},
        },
        "data": {"train": _fingerprint(train_data), "valid": _fingerprint(valid_data)},
        "recorded": recorded,
    }


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def tokens_of(data: TokenSource) -> TokenArray:
    """Return the ids of a token file or an array of ids."""
    return data.tokens if isinstance(data, TokenDataset) else data


def check_same_tokenizer(train_data: TokenSource, valid_data: TokenSource) -> None:
    """Check that two token files are written by one tokenizer, as far as they say.

    Raises:
        ValueError: they are not.
    """
    if isinstance(train_data, TokenDataset) and isinstance(valid_data, TokenDataset):
        ours, theirs = train_data.tokenizer_sha256, valid_data.tokenizer_sha256
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"{train_data.path} and {valid_data.path} come from different tokenizers ({ours[:12]}, {theirs[:12]}): "
                "encode both with the same one"
            )


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a parameter group; not "lr", which the schedule sets."""
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


def _fingerprint(data: TokenSource) -> dict[str, Any]:
    """Enough to notice that other data are given: their path does not matter."""
    tokens = tokens_of(data)
    ends = hashlib.sha256()
    for part in (tokens[:_FINGERPRINT_TOKENS], tokens[-_FINGERPRINT_TOKENS:]):
        ends.update(np.ascontiguousarray(part).astype("<u4").tobytes())
    return {"tokens": len(tokens), "sha256_of_ends": ends.hexdigest()}
