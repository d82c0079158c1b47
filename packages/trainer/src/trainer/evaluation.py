"""Evaluation of a model on a whole split: deterministic, and independent of the batch size."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer.data import IGNORED, TokenSource, TokenSplit
from trainer.devices import autocast, to_device
from trainer.distributed import Processes

COUNTING_EXPECTED = (
    "loss_fn returned a mean, but not all targets of examples count: expected the sum of the losses and their number, "
    "such as losses.sum(), (targets != -100).sum()"
)

_COMPLEX = (torch.complex32, torch.complex64, torch.complex128)

LossResult: TypeAlias = torch.Tensor | tuple[torch.Tensor, torch.Tensor | float]
"""The mean loss of a batch in nats per target, a scalar; or the sum of the losses, a scalar, and the number of targets
that count."""
LossFunction: TypeAlias = Callable[[nn.Module, torch.Tensor, torch.Tensor], LossResult]
"""loss_fn(model, inputs, targets) -> mean loss, if every target counts; else the sum of the losses and their number."""


@dataclass(frozen=True)
class Evaluation:
    """Loss, perplexity and bits per byte on a split; not finite if the model's output is not."""

    loss: float
    """Mean cross-entropy in nats per token."""
    perplexity: float
    """exp(loss)."""
    bits_per_byte: float | None
    """Sum of the losses in bits, divided by the bytes of the text without its special tokens, as in nanochat, which
    leaves out their losses, too. None if the number of bytes is not known, or some targets do not count."""
    tokens: int
    """Predicted tokens that count: all of the split except the first of each part (a token file or an array of ids),
    unless the loss function leaves out some."""


def next_token_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy of a model that maps (batch, time) ids to (batch, time, vocab) logits.

    Returns:
        The sum of the losses in nats, and the number of targets that count, all but -100.
    """
    logits = model(inputs).flatten(0, 1).float()
    return cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum"), (targets != IGNORED).sum()


def evaluate(
    model: nn.Module,
    tokens: TokenSource | TokenSplit,
    context_length: int,
    *,
    batch_size: int = 32,
    loss_fn: LossFunction | None = None,
    num_bytes: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    processes: Processes | None = None,
) -> Evaluation:
    """Compute the mean loss over a whole split, in adjacent windows of which the last may be shorter, or by examples.

    The losses of the windows are summed in float64, weighted by the targets that count. During the evaluation the model
    is in evaluation mode; afterwards each module gets its previous mode back.

    Args:
        model: Any module.
        tokens: A token file, (n,) token ids, or a list of such parts, of each of which n - 1 tokens are predicted; or
            examples.
        context_length: Tokens in a window.
        batch_size: Windows in one forward pass; it changes the speed, not the result.
        loss_fn: Function that returns the mean loss of a batch, or the sum of its losses and the number of targets that
            count, as it must for examples; None computes the cross-entropy of the model's logits.
        num_bytes: UTF-8 bytes of the split's text, for the bits per byte; None reads the number from the token files.
        device: Device of the model; None takes the device of its parameters.
        dtype: torch.bfloat16 computes under autocast; None computes in float32.
        processes: Processes that share the work, each with the whole split and the same model; None for this one alone.

    Raises:
        ValueError: If a part of the split has less than two tokens, batch_size is below 1, loss_fn returns anything
            else, or no target counts.
    """
    split = tokens if isinstance(tokens, TokenSplit) else TokenSplit(tokens, "the split to evaluate")
    if context_length < 1:
        raise ValueError(f"context_length is {context_length!r}: expected 1 or more")
    split.check_can_be_evaluated(context_length)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}: expected 1 or more")
    where = torch.device(device) if device is not None else _device_of(model)
    processes = processes or Processes()
    # The sum stays on the device, so that the host need not wait for each batch. MPS has no float64.
    totals = torch.zeros(2, dtype=torch.float64, device="cpu" if where.type == "mps" else where)
    with evaluating(model), autocast(where, dtype or torch.float32):
        for inputs, targets, weight in _batches(split, context_length, batch_size, processes):
            result = (loss_fn or next_token_loss)(model, to_device(inputs, where), to_device(targets, where))
            loss, counted = read_loss(result)
            if counted is None and split.examples is not None:
                raise ValueError(COUNTING_EXPECTED)
            loss = loss.detach().to(totals.device).double()
            if counted is None:
                totals += torch.stack((loss * weight, loss.new_tensor(weight)))
            elif weight:
                totals += torch.stack((loss, torch.as_tensor(counted, device=totals.device).double()))
    total, count = processes.sum(totals).tolist()
    if not 0 < count < math.inf:
        shown = "no target" if count == 0 else f"{count:g} targets"
        raise ValueError(f"loss_fn counts {shown} of {split.name}: expected at least one, and a finite number")
    num_bytes = split.num_bytes if num_bytes is None else num_bytes
    counts_all = split.examples is None and count == sum(split.lengths) - len(split.parts)
    bits = total / math.log(2) / num_bytes if num_bytes and counts_all else None
    return Evaluation(loss=total / count, perplexity=_exp(total / count), bits_per_byte=bits, tokens=int(count))


def read_loss(result: object) -> tuple[torch.Tensor, torch.Tensor | float | None]:
    """Return the loss and the number of targets that a loss function has returned; the number of a mean is None.

    Raises:
        ValueError: If it has returned anything else than a `LossResult`.
    """
    expected = "expected a scalar tensor, the mean over the batch, or a tuple of the sum of the losses and their number"
    loss: object = result
    count: object = None
    if isinstance(result, tuple) and len(result) == 2:
        loss, count = result
    if not isinstance(loss, torch.Tensor):
        kind = f"tuple of {len(loss)}" if isinstance(loss, tuple) else type(loss).__name__
        hint = "; return its .loss" if hasattr(loss, "loss") else ""
        raise ValueError(f"loss_fn returned a {kind}: {expected}{hint}")  # noqa: TRY004 - as for a wrong shape
    if loss.dim() != 0 or not loss.is_floating_point():
        raise ValueError(f"loss_fn returned the shape {tuple(loss.shape)} and the type {loss.dtype}: {expected}")
    if count is None:
        return loss, None
    if isinstance(count, torch.Tensor) and count.dim() == 0 and count.dtype not in (torch.bool, *_COMPLEX):
        return loss, count.detach()
    if isinstance(count, numbers.Real) and not isinstance(count, bool) and 0 <= float(count) < math.inf:
        return loss, float(count)
    shown = (
        f"a tensor of the shape {tuple(count.shape)} and the type {count.dtype}"
        if isinstance(count, torch.Tensor)
        else repr(count)
    )
    raise ValueError(f"loss_fn returned {shown} as the number of losses: {expected}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and restore the mode of each module afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        # Not inference_mode: buffers that a model caches here must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _batches(
    split: TokenSplit, context_length: int, batch_size: int, processes: Processes
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """Yield the inputs, targets and weight (number of targets) of each batch in this process's share.

    All processes get the same number of batches, because a forward pass of a sharded model needs all of them. A process
    that has no batch left repeats the first one of the split, with the weight 0.
    """
    plan = _plan_batches(split, context_length, batch_size)
    for turn in range(0, len(plan), processes.world_size):
        is_own = turn + processes.rank < len(plan)
        part, begin, rows, length = plan[turn + processes.rank if is_own else 0]
        if split.examples is not None:
            inputs, targets = map(torch.from_numpy, split.examples.read(np.arange(begin, begin + rows), length))
        else:
            ids = torch.from_numpy(split.read_range(part, begin, rows * length + 1))
            inputs, targets = ids[:-1].view(rows, length), ids[1:].view(rows, length)
        yield inputs, targets, is_own * rows * length


def _plan_batches(split: TokenSplit, context_length: int, batch_size: int) -> list[tuple[int, int, int, int]]:
    """Return the part, first token or example, rows and tokens per row of each batch."""
    if split.examples is not None:
        count = len(split.examples)
        return [(0, first, min(batch_size, count - first), context_length) for first in range(0, count, batch_size)]
    plan = []
    for part, length in enumerate(split.lengths):
        whole, rest = divmod(length - 1, context_length)
        for first in range(0, whole, batch_size):
            plan.append((part, first * context_length, min(batch_size, whole - first), context_length))
        if rest:
            plan.append((part, whole * context_length, 1, rest))
    return plan


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
