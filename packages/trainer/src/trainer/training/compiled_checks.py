"""Checks of compiled programs against the eager ones, by gradients and by the changes that an update makes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from trainer.checkpoints import get_random_states, preserved_random_states, same_random_states, set_random_states
from trainer.distributed import Parallel

_LOSS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-3, torch.float16: 1e-3}
"""Largest relative difference of two losses, by the dtype of matrix products."""
_GRADIENT_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 0.25, torch.float16: 0.1}
"""The same of gradients, by their norms. A speedrun model with 4 layers has differences of up to 3 % in bfloat16 on a
CPU, in scalars. A wrong kernel changes a gradient by about its whole norm."""
_UPDATE_TOLERANCE = {torch.float32: 5e-2, torch.bfloat16: 0.5, torch.float16: 0.5}
"""The same of updates. Muon magnifies rounding errors of small gradients: with the same model, up to 16 % of an update
differ in bfloat16, and 0.1 % in float32."""
_LEAST_SHARE = 2e-3
"""Share of the norm of all gradients together below which one is only rounding errors, such as that of a key's bias."""
_MATRIX_NOISE = 0.5  # as a multiple of the usual standard deviation, 1 / sqrt(inputs)
_VECTOR_NOISE = 0.1
_ROUNDING = 4  # in units of the machine epsilon: of a difference of two numbers that were rounded


class WrongResultError(RuntimeError):
    """A compiled program computes something else than the eager one, or not the same in all processes."""


@contextmanager
def disturbed(parallel: Parallel) -> Iterator[None]:
    """Add noise to all weights, and restore weights, buffers and random states bit for bit at the end of the block.

    Where projections begin with zeros, the loss does not depend on the blocks, and many gradients are zero: a wrong
    kernel could not be seen. The block needs memory for a second copy of the weights.
    """
    weights = [parallel.own_part(weight.detach()) for weight in parallel.model.parameters()]
    saved = [(value, value.detach().clone()) for value in (*weights, *parallel.model.buffers())]
    with preserved_random_states():
        try:
            for weight in weights:
                _add_noise(weight)
            torch.clear_autocast_cache()  # which an enclosing block of autocast keeps
            yield
        finally:
            with torch.no_grad():
                for value, before in saved:
                    value.copy_(before)
            torch.clear_autocast_cache()


def _add_noise(weight: torch.Tensor) -> None:
    if not (weight.is_floating_point() and weight.numel()):
        return
    generator = torch.Generator(weight.device).manual_seed(0)
    noise = torch.randn(weight.shape, generator=generator, device=weight.device)
    inputs = weight.numel() // weight.shape[0] if weight.dim() > 1 else 0
    weight.add_(noise.mul_(_MATRIX_NOISE / math.sqrt(inputs) if inputs else _VECTOR_NOISE))


class Gradients(NamedTuple):
    """A mean loss, and the gradients of the parameters that have one."""

    loss: float
    of: Mapping[str, torch.Tensor]


def check_gradients(compiled: Gradients, eager: Gradients, dtype: torch.dtype) -> None:
    """Compare a compiled loss and its gradients with the eager ones of the same batch and weights.

    A difference counts relative to the norm of the eager gradient, or to the root mean square of the norms of its
    family if that is larger: the parameters of the same name in other layers. Nothing is compared if the eager result
    is not finite.

    Args:
        compiled: Result of the compiled loss.
        eager: The same without the compiler.
        dtype: Type of the matrix products.

    Raises:
        WrongResultError: If they differ by more than rounding errors.
    """
    if not math.isfinite(eager.loss):
        return
    check_loss(compiled.loss, eager.loss, dtype)
    if compiled.of.keys() != eager.of.keys():
        names = ", ".join(sorted(compiled.of.keys() ^ eager.of.keys()))
        raise WrongResultError(f"gradients exist only with or only without it: {names}")
    sizes = {name: _norm(gradient) for name, gradient in eager.of.items()}
    if not all(map(math.isfinite, sizes.values())):
        return
    usual, least = _usual_sizes(sizes), _LEAST_SHARE * math.hypot(*sizes.values())
    for name, gradient in eager.of.items():
        difference = _norm(compiled.of[name] - gradient)
        if not difference <= _GRADIENT_TOLERANCE[dtype] * max(sizes[name], usual[name], least):
            raise WrongResultError(
                f"its gradient of {name} has the norm {_norm(compiled.of[name]):g}, and {sizes[name]:g} without it; "
                f"their difference has {difference:g}"
            )


def check_loss(compiled: float, eager: float, dtype: torch.dtype) -> None:
    """Compare a compiled loss with the eager one of the same batch and weights, unless that is not finite.

    Raises:
        WrongResultError: If they differ by more than rounding errors.
    """
    if math.isfinite(eager) and not abs(compiled - eager) <= _LOSS_TOLERANCE[dtype] * max(1.0, abs(eager)):
        raise WrongResultError(f"its loss of the first batch is {compiled:g}, and {eager:g} without it")


class UpdateCheck:
    """An optimizer's parameters and state before a step, to undo the step and to compare two ways to make it.

    It needs memory for two copies of the parameters and the state.

    Args:
        optimizer: An optimizer that is about to make a step, with its state.
        names: Names of the parameters, by their id.
    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str]) -> None:
        self._optimizer = optimizer
        self._names = names
        self._random_states = get_random_states()
        self._parameters = [parameter.detach().clone() for parameter in self._all()]
        self._states = [_cloned(optimizer.state.get(parameter, {})) for parameter in self._all()]
        self._eager: tuple[list[torch.Tensor], list[dict[str, Any]]] | None = None

    def make_eager_step(self) -> None:
        """Make an eager step, keep its result and undo it; of one that draws random numbers, keep nothing."""
        self._optimizer.step()
        if same_random_states(self._random_states, get_random_states()):
            parameters = [parameter.detach().clone() for parameter in self._all()]
            self._eager = parameters, [_cloned(self._optimizer.state[parameter]) for parameter in self._all()]
        self.undo()

    def undo(self) -> None:
        """Restore parameters, state and random states bit for bit."""
        set_random_states(self._random_states)
        with torch.no_grad():
            for parameter, before in zip(self._all(), self._parameters, strict=True):
                parameter.copy_(before)
            for parameter, earlier in zip(self._all(), self._states, strict=True):
                state = self._optimizer.state[parameter]
                for name in state.keys() - earlier.keys():
                    del state[name]
                for name, value in earlier.items():
                    if isinstance(value, torch.Tensor) and isinstance(state.get(name), torch.Tensor):
                        state[name].copy_(value)
                    else:
                        state[name] = value

    def compare(self, dtype: torch.dtype) -> None:
        """Compare the step that was made now with the eager one.

        Args:
            dtype: Type of the matrix products.

        Raises:
            WrongResultError: If they differ by more than rounding errors.
        """
        if self._eager is None:
            return
        parameters = [parameter.detach() for parameter in self._all()]
        names = [self._names.get(id(parameter), f"parameter {index}") for index, parameter in enumerate(self._all())]
        changes = [after - before for after, before in zip(self._eager[0], self._parameters, strict=True)]
        sizes = {name: _norm(change) for name, change in zip(names, changes, strict=True)}
        usual = _usual_sizes(sizes)
        for name, now, eager, before in zip(names, parameters, self._eager[0], self._parameters, strict=True):
            rounding = _ROUNDING * torch.finfo(now.dtype).eps * _norm(before)
            difference = _norm(now - eager)
            allowed = _UPDATE_TOLERANCE[dtype] * max(sizes[name], usual[name]) + rounding
            if math.isfinite(sizes[name]) and not difference <= allowed:
                raise WrongResultError(
                    f"its first update changes {name} by the norm {_norm(now - before):g}, and by {sizes[name]:g} "
                    f"without it; their difference has {difference:g}"
                )
        for name, parameter, states in zip(names, self._all(), self._eager[1], strict=True):
            _check_state(name, self._optimizer.state[parameter], states, dtype)

    def _all(self) -> Iterator[torch.Tensor]:
        return (parameter for group in self._optimizer.param_groups for parameter in group["params"])


def _check_state(name: str, state: Mapping[str, Any], eager: Mapping[str, Any], dtype: torch.dtype) -> None:
    for key, value in eager.items():
        if not isinstance(value, torch.Tensor) or not math.isfinite(size := _norm(value)):
            continue
        difference = _norm(state[key] - value)
        if not difference <= _UPDATE_TOLERANCE[dtype] * size:
            raise WrongResultError(
                f"after its first update {key} of {name} has the norm {_norm(state[key]):g}, and {size:g} without it; "
                f"their difference has {difference:g}"
            )


def _cloned(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in state.items()}


def _usual_sizes(sizes: Mapping[str, float]) -> dict[str, float]:
    """Return for each parameter the root mean square of the norms of those whose names differ only in numbers."""
    families: dict[str, list[float]] = {}
    for name, size in sizes.items():
        families.setdefault(_family(name), []).append(size)
    usual = {family: math.sqrt(sum(size**2 for size in of) / len(of)) for family, of in families.items()}
    return {name: usual[_family(name)] for name in sizes}


def _family(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _norm(tensor: torch.Tensor) -> float:
    """Return the L2 norm; of a sparse gradient, that of its numbers."""
    numbers = tensor.coalesce().values() if tensor.is_sparse else tensor
    return float(torch.linalg.vector_norm(numbers.detach().float()).item()) if numbers.numel() else 0.0
