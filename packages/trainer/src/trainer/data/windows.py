"""Arrays of token ids, and random windows of them."""

from __future__ import annotations

import mmap
from typing import Any, TypeAlias

import numpy as np
import torch

from trainer.devices.devices import to_device

TokenArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_SCAN_CHUNK = 1 << 20  # ids looked at together when the largest one is sought: bounds the memory


def get_batch(
    tokens: TokenArray,
    batch_size: int,
    context_length: int,
    device: torch.device | str,
    generator: np.random.Generator | torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw windows whose starts are uniform over all n - context_length possible ones.

    Args:
        tokens: (n,) token ids, a numpy array or memory map; only what is drawn is read.
        batch_size: windows to draw, independently of each other.
        context_length: tokens in a window.
        device: where the tensors go; a bad one raises torch's own error.
        generator: source of the starts; None is torch's global generator.

    Returns:
        Inputs and targets, both (batch_size, context_length) int64; targets are the inputs' next tokens.

    Raises:
        ValueError: `tokens` is not one-dimensional or too short, or a size is below 1.
    """
    if batch_size < 1 or context_length < 1:
        raise ValueError(f"batch_size is {batch_size!r}, context_length {context_length!r}: expected 1 or more")
    check_length(tokens, context_length, "tokens")
    count = len(tokens) - context_length
    if isinstance(generator, np.random.Generator):
        starts = generator.integers(count, size=batch_size)
    else:
        starts = torch.randint(count, (batch_size,), generator=generator).numpy()
    batch = torch.from_numpy(read_windows(tokens, starts, context_length + 1))
    return to_device(batch[:, :-1].contiguous(), device), to_device(batch[:, 1:].contiguous(), device)


def batch_generator(seed: int, step: int, micro_step: int) -> np.random.Generator:
    """Return the generator of one batch: a pure function of its arguments, so resuming needs no loader state."""
    return np.random.default_rng([seed, step, micro_step])


def read_windows(tokens: TokenArray, starts: TokenArray, length: int) -> TokenArray:
    """Read windows of an array as (windows, length) int64, keeping nothing of a mapped file in memory."""
    # The plain view of a memory map: its own type looks at every result.
    windows = tokens.view(np.ndarray)[starts[:, None] + np.arange(length)].astype(np.int64)
    _release_pages(tokens)
    return windows


def id_range(tokens: TokenArray) -> tuple[int, int]:
    """Return the smallest and the largest id of an array that is not empty, reading all of it once."""
    plain, has_sign = tokens.view(np.ndarray), tokens.dtype.kind != "u"
    smallest = largest = int(plain[0])
    for begin in range(0, len(tokens), _SCAN_CHUNK):
        chunk = plain[begin : begin + _SCAN_CHUNK]
        smallest = min(smallest, int(chunk.min())) if has_sign else 0
        largest = max(largest, int(chunk.max()))
        _release_pages(tokens)
    return smallest, largest


def read_window(tokens: TokenArray, begin: int, length: int) -> torch.Tensor:
    """Read `length` consecutive ids as int64, keeping nothing of the file in memory."""
    window = torch.from_numpy(np.asarray(tokens[begin : begin + length]).astype(np.int64))
    _release_pages(tokens)
    return window


def check_length(tokens: TokenArray, context_length: int, what: str) -> None:
    """Check that an array of ids holds at least one window and the token after it.

    Raises:
        ValueError: it has another number of dimensions, or is too short.
    """
    if tokens.ndim != 1:
        raise ValueError(f"{what} has the shape {tokens.shape}: expected one dimension")
    if len(tokens) < context_length + 1:
        raise ValueError(
            f"{what} has {len(tokens)} tokens: expected at least {context_length + 1}, one window of context_length "
            f"{context_length} and the token after it; use a longer text or a smaller context_length"
        )


def _release_pages(tokens: TokenArray) -> None:
    """Take what was read off the resident memory; the system's cache keeps it, so that reading again is cheap.

    Only read-only maps: in a copy-on-write one it would undo what was written.
    """
    mapping = getattr(tokens, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and getattr(tokens, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
