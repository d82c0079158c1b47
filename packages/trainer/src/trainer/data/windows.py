"""Random windows of token ids, and what all readers of ids have in common."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

from trainer.devices import to_device

TokenArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

IGNORED = -100
"""Target that does not count, the default `ignore_index` of torch's cross-entropy."""


def get_batch(
    tokens: TokenArray,
    batch_size: int,
    context_length: int,
    device: torch.device | str,
    generator: np.random.Generator | torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw windows whose starts are uniform over all n - context_length possible ones.

    Args:
        tokens: (n,) token ids, a numpy array or memory map; only the drawn windows are read.
        batch_size: Windows to draw, independently of each other.
        context_length: Tokens in a window.
        device: Where the tensors go; an invalid device raises torch's own error.
        generator: Source of the starts; None is torch's global generator.

    Returns:
        Inputs and targets, both (batch_size, context_length) int64; targets are the inputs' next tokens.

    Raises:
        ValueError: If `tokens` is not one-dimensional or too short, or a size is below 1.
    """
    if batch_size < 1 or context_length < 1:
        raise ValueError(f"batch_size is {batch_size!r}, context_length {context_length!r}: expected 1 or more")
    check_length(tokens.shape, context_length, "tokens")
    count = len(tokens) - context_length
    if isinstance(generator, np.random.Generator):
        starts = generator.integers(count, size=batch_size)
    else:
        starts = torch.randint(count, (batch_size,), generator=generator).numpy()
    batch = torch.from_numpy(take_windows(tokens, starts, context_length + 1))
    return to_device(batch[:, :-1].contiguous(), device), to_device(batch[:, 1:].contiguous(), device)


def batch_generator(seed: int, step: int, micro_step: int) -> np.random.Generator:
    """Return the generator of one batch: a pure function of its arguments, so that resuming needs no loader state."""
    return np.random.default_rng([seed, step, micro_step])


def take_windows(tokens: TokenArray, starts: TokenArray, length: int) -> TokenArray:
    """Copy windows of an array, as (windows, length) int64."""
    # The plain view of a memory map: numpy.memmap inspects every result.
    return tokens.view(np.ndarray)[starts[:, None] + np.arange(length)].astype(np.int64)


def id_range(tokens: TokenArray) -> tuple[int, int]:
    """Return the smallest and the largest id of an array that is not empty."""
    return int(tokens.min()), int(tokens.max())


def dtype_advice(tokens: TokenArray) -> str:
    """Return which dtype to save ids in, so that none of them changes."""
    if tokens.dtype.kind not in "iufb" or not tokens.size:
        return "save whole numbers as uint16, or as uint32 if one is above 65,535"
    smallest, largest = float(tokens.min()), float(tokens.max())
    if not 0 <= smallest <= largest < 1 << 32:  # nan, too
        return f"its values go from {smallest:.15g} to {largest:.15g}, which are no token ids"
    if tokens.dtype.kind == "f" and (tokens != np.floor(tokens)).any():
        return "some of its values are fractions, which are no token ids"
    return f"save it with ids.astype('uint{16 if largest < 1 << 16 else 32}'), because the largest is {largest:.0f}"


def check_length(shape: tuple[int, ...], context_length: int, name: str) -> None:
    """Check that ids of this shape hold at least one window and the token after it.

    Raises:
        ValueError: If the shape is not one-dimensional, or too short.
    """
    if len(shape) != 1:
        raise ValueError(f"{name} has the shape {shape}: expected one dimension")
    if shape[0] < context_length + 1 == 2:
        raise ValueError(f"{name} has {shape[0]} tokens: expected at least 2, because the first one is not predicted")
    if shape[0] < context_length + 1:
        raise ValueError(
            f"{name} has {shape[0]} tokens: expected at least {context_length + 1}, one window of context_length "
            f"{context_length} and the token after it; use a longer text or a smaller context_length"
        )
