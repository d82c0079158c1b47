"""States of models and optimizers under names that do not tell how they were wrapped."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

_COMPILED = "_orig_mod."
_PARALLEL = "module."
_SHOWN_NAMES = 3


def get_model_state(model: nn.Module) -> dict[str, Any]:
    """Return the model's state without the prefixes of torch.compile and DistributedDataParallel."""
    state = model.state_dict()
    plain = _plain_names(list(state))
    return {plain[name]: value for name, value in state.items()}


def get_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the model's parameters, shared ones once, under such names too."""
    parameters = dict(model.named_parameters())
    plain = _plain_names(list(parameters))
    return {plain[name]: parameter for name, parameter in parameters.items()}


def set_model_state(model: nn.Module, state: dict[str, Any], source: str) -> None:
    """Load a state into a model, whichever of the two is wrapped.

    Raises:
        ValueError: names are missing, unexpected or of another shape; the model is unchanged.
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
    model.load_state_dict({expected[name]: fitting(value, current[expected[name]]) for name, value in given.items()})


def set_optimizer_state(optimizer: Optimizer, state: dict[str, Any], source: str) -> None:
    """Load a state into an optimizer, to the bit.

    Raises:
        ValueError: the state belongs to other parameter groups.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    examples = dict(zip(numbers, parameters, strict=False))
    divided = {
        number: {name: fitting(value, examples[number]) for name, value in values.items()}
        for number, values in state["state"].items()
        if number in examples
    }
    state = {**state, "state": state["state"] | divided}
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{source} does not fit the optimizer ({error}); build it as it was when saved") from error
    # torch casts the state to the parameters' data type: undo that where it lost precision.
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, saved in state["state"].get(number, {}).items():
            loaded = optimizer.state[parameter][name]
            if isinstance(saved, torch.Tensor) and saved.dtype != loaded.dtype:
                optimizer.state[parameter][name] = saved.to(loaded.device, copy=True)


def fitting(value: Any, example: torch.Tensor) -> Any:
    """Divide a value among the processes as its parameter is, if it is."""
    if type(example) in (torch.Tensor, nn.Parameter) or not hasattr(example, "full_tensor"):
        return value
    from trainer.distributed.fsdp import divided_like

    return divided_like(value, example)


def _plain_names(names: list[str]) -> dict[str, str]:
    """Map names to what they are without wrappers; "module." only counts if all of them begin with it."""
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
