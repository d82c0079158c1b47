"""Callbacks: objects that a run calls at its steps, evaluations, saves and end, and that can stop it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from trainer.distributed import Processes
from trainer.evaluation import Evaluation
from trainer.records.summary import Summary


@dataclass(frozen=True, kw_only=True)
class RunState:
    """State of a run at a call."""

    step: int
    """Optimizer steps made."""
    progress: float
    """Share of the run that is done, from 0 to 1."""
    tokens: int
    """Training tokens read."""
    seconds_total: float
    """Seconds of the run so far."""
    model: nn.Module
    optimizer: Optimizer
    loss: torch.Tensor | None
    """Mean loss of the last step, a scalar on the device; reading it waits for the device. None before the first."""


class Callback(Protocol):
    """Base class of callbacks, of which any method may be left out.

    A method that returns True stops the run in order after the present step: it is evaluated and saved, and its status
    is "stopped". An exception ends the run as it is. With several processes, all call the methods, and one that asks to
    stop stops all. A callback with `state_dict` and `load_state_dict` has its state in the checkpoints.
    """

    def on_step(self, run: RunState) -> bool | None:
        """Called after each step, before its evaluation."""

    def on_evaluation(self, run: RunState, evaluation: Evaluation, *, is_whole: bool) -> bool | None:
        """Called after each evaluation; `is_whole` is false if it read a part of the split only."""

    def on_save(self, run: RunState, checkpoint: Path) -> bool | None:
        """Called when a checkpoint has been taken; it may still be written to this directory."""

    def on_end(self, summary: Summary) -> None:
        """Called when the run is finished, and its summary written."""


class EarlyStopping(Callback):
    """Stops a run whose validation loss has not improved for a while (Prechelt 1998); the best model is saved anyway.

    With `eval_tokens`, evaluations of the same part of the split are compared with each other.

    Args:
        patience: Evaluations, one after the other, without a better loss.
        min_delta: Nats by which a loss must be lower to be better.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, patience: int = 3, min_delta: float = 0.0) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"patience is {patience!r}: expected a whole number, 1 or more")
        if isinstance(min_delta, bool) or not isinstance(min_delta, int | float) or not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta is {min_delta!r}: expected a finite number, 0 or more")
        self.patience, self.min_delta = patience, min_delta
        self._best, self._without, self._is_whole = math.inf, 0, True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"best": self._best, "without": self._without, "is_whole": self._is_whole}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best, self._without, self._is_whole = state["best"], state["without"], state["is_whole"]

    def on_evaluation(self, run: RunState, evaluation: Evaluation, *, is_whole: bool) -> bool | None:
        """Stop after `patience` evaluations without a better loss."""
        if is_whole != self._is_whole:  # losses of a part and of the whole cannot be compared
            self._best, self._without, self._is_whole = math.inf, 0, is_whole
        is_better = evaluation.loss < self._best - self.min_delta
        self._without = 0 if is_better else self._without + 1
        self._best = min(self._best, evaluation.loss)
        return self._without >= self.patience


class CallbackGroup:
    """Calls the methods that callbacks have, and remembers whether one has asked to stop."""

    def __init__(self, callbacks: Sequence[object], processes: Processes) -> None:
        self._callbacks = callbacks
        self._processes = processes
        self.have_stopped = False
        """Whether the run is to end."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint: the state of each callback with its class."""
        states = [_state_of(callback) for callback in self._callbacks]
        return {"have_stopped": self.have_stopped, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for callbacks of the same classes in the same places."""
        self.have_stopped = state["have_stopped"]
        for callback, (kind, saved) in zip(self._callbacks, state["states"], strict=False):
            load: Callable[[Any], None] | None = getattr(callback, "load_state_dict", None)
            if load is not None and kind == type(callback).__qualname__ and saved is not None:
                load(saved)

    def call(self, method: str, *arguments: Any, **named: Any) -> None:
        """Call a method of each callback that has it; all processes must do this together."""
        if not self._callbacks:
            return
        functions = (getattr(callback, method, None) for callback in self._callbacks)
        answers = [function(*arguments, **named) for function in functions if function is not None]
        stops = any(_is_true(answer) for answer in answers)
        self.have_stopped |= bool(self._processes.maximum(float(stops)))


def describe_callbacks(callbacks: Sequence[object]) -> list[dict[str, Any]]:
    """Return the class of each callback and its plain attributes, for the records of a run.

    Raises:
        TypeError: If one is a class instead of an object.
    """
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"callbacks has the class {callback.__name__}: expected an object, {callback.__name__}(…)")
    plain = (bool, int, float, str, type(None))
    return [
        {"class": type(callback).__qualname__}
        | {
            name: value if not isinstance(value, float) or math.isfinite(value) else repr(value)  # JSON has no infinity
            for name, value in getattr(callback, "__dict__", {}).items()
            if isinstance(value, plain) and not name.startswith("_")
        }
        for callback in callbacks
    ]


def _is_true(answer: object) -> bool:
    """Return whether an answer is True, also that of numpy or torch; anything else is no request to stop."""
    return isinstance(answer, bool | np.bool_ | torch.Tensor) and bool(answer)


def _state_of(callback: object) -> tuple[str, Any]:
    state: Callable[[], Any] | None = getattr(callback, "state_dict", None)
    return type(callback).__qualname__, None if state is None else state()
