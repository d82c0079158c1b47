"""States of models and optimizers under names that are the same however they were wrapped."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

_COMPILED = "_orig_mod."
_PARALLEL = "module."
_SHOWN_NAMES = 3
_PLAIN = {bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size}
_MAPPINGS = {dict, OrderedDict, Counter, defaultdict}
_SEQUENCES = {list, tuple, set}

ShardLike: TypeAlias = Callable[[torch.Tensor, Any], Any]
"""shard_like(parameter, value) -> the whole value, sharded like the parameter if it is."""


def _keep_whole(parameter: torch.Tensor, value: Any) -> Any:
    return value


def get_model_state(model: nn.Module) -> dict[str, Any]:
    """Return the model's state without the prefixes of torch.compile and DistributedDataParallel."""
    state = model.state_dict()
    plain = _plain_names(list(state))
    return {plain[name]: value for name, value in state.items()}


def get_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the model's parameters under such names too, shared ones once."""
    parameters = dict(model.named_parameters())
    plain = _plain_names(list(parameters))
    return {plain[name]: parameter for name, parameter in parameters.items()}


def set_model_state(model: nn.Module, state: dict[str, Any], source: str, shard_like: ShardLike = _keep_whole) -> None:
    """Load a state into a model, whichever of the two is wrapped.

    Args:
        model: Gets the state.
        state: Whole tensors by name.
        source: Name of the state, for errors.
        shard_like: Shards a tensor, if the model's parameters are sharded.

    Raises:
        ValueError: If names are missing, unexpected or of another shape; the model is unchanged.
    """
    current = model.state_dict()
    plain = _plain_names(list(state))
    given = {plain[name]: value for name, value in state.items()}
    own = _plain_names(list(current))
    expected = {own[name]: name for name in current}
    _check_names(source, "lacks", expected.keys() - given.keys())
    _check_names(source, "has the unexpected", given.keys() - expected.keys())
    for name, value in given.items():
        wanted = current[expected[name]]
        if isinstance(value, torch.Tensor) and value.shape != wanted.shape:
            raise ValueError(
                f"{source} does not fit the model: {name} has the shape {tuple(value.shape)}, expected "
                f"{tuple(wanted.shape)}; build the model with the configuration it was saved with"
            )
    model.load_state_dict({expected[name]: shard_like(current[expected[name]], value) for name, value in given.items()})


def set_optimizer_state(
    optimizer: Optimizer, state: dict[str, Any], source: str, shard_like: ShardLike = _keep_whole
) -> None:
    """Load a state into an optimizer, to the bit.

    Args:
        optimizer: Gets the state.
        state: What `optimizer.state_dict()` returned, with whole tensors.
        source: Name of the state, for errors.
        shard_like: Shards a tensor like its parameter, if the parameters are sharded.

    Raises:
        ValueError: If the state belongs to other parameter groups.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    examples = dict(zip(numbers, parameters, strict=False))
    sharded = {
        number: {name: shard_like(examples[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
        if number in examples
    }
    state = {**state, "state": state["state"] | sharded}
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{source} does not fit the optimizer ({error}); build it as it was when saved") from error
    # torch casts the state to the parameters' dtype: undo that where it lost precision.
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, saved in state["state"].get(number, {}).items():
            loaded = optimizer.state[parameter][name]
            if isinstance(saved, torch.Tensor) and saved.dtype != loaded.dtype:
                optimizer.state[parameter][name] = saved.to(loaded.device, copy=True)


def storable(value: Any, name: str) -> Any:
    """Return a state as a checkpoint can hold it: numbers of numpy become those of Python.

    Args:
        value: Tensors and plain values, in dicts, lists, tuples and sets.
        name: Name of the state, for errors.

    Raises:
        TypeError: If it holds anything else, which `torch.load` would refuse to read without trust.
    """
    kind = type(value)
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return value.item()
    if isinstance(value, torch.Tensor) or kind in _PLAIN:
        return value
    if kind in _MAPPINGS:
        made = dict if kind is defaultdict else kind
        return made({storable(key, name): storable(item, f"{name}.{key}") for key, item in value.items()})
    if kind in _SEQUENCES:
        return kind(storable(item, f"{name}[{number}]") for number, item in enumerate(value))
    if kind in torch.serialization.get_safe_globals():
        return value
    raise TypeError(
        f"{name} is a {kind.__qualname__}, which a checkpoint cannot hold: expected tensors, numbers, strings, or "
        "dicts, lists, tuples and sets of these, in what state_dict returns"
    )


def _plain_names(names: list[str]) -> dict[str, str]:
    """Map names to those without wrappers; "module." is a wrapper's prefix only if all names begin with it."""
    plain = {name: name.replace(_COMPILED, "") for name in names}
    while plain and all(name.startswith(_PARALLEL) for name in plain.values()):
        plain = {name: short.removeprefix(_PARALLEL) for name, short in plain.items()}
    return plain


def _check_names(source: str, problem: str, names: set[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
        raise ValueError(
            f"{source} does not fit the model: it {problem} {shown} ({len(names)} in all); "
            "build the model with the configuration it was saved with"
        )
