"""Conversion of prompts, in any accepted form, to one batch of token ids."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from nnscratch.generation.sampling import is_integer

Prompts = (
    Int[Tensor, "batch prompt"]
    | Int[Tensor, "prompt"]
    | Sequence[int]
    | Sequence[Sequence[int]]
    | Sequence[Int[Tensor, "_"]]
)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts padded on the left to a common length."""

    ids: Int[Tensor, "batch longest"]
    padding: Int[Tensor, "batch"] | None
    """Number of padding ids in each row; None if no row has any."""
    most_padding: int
    """Largest number of padding ids in a row; an int, so that reading it does not wait for the device."""


def check_token_id(name: str, token_id: int | None, vocab_size: int) -> None:
    """Check that an id is None or in the vocabulary."""
    if token_id is not None and (not is_integer(token_id) or not 0 <= token_id < vocab_size):
        raise ValueError(f"{name}={token_id!r} is not a token; choose an id from 0 to {vocab_size - 1}, or None")


def _integers(value: Any, name: str) -> Tensor:
    """Return a value as an int64 tensor of any shape; refuse an empty tensor and numbers that are not integers."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text")
        # A copy, because torch warns when it shares memory with a read-only array.
        ids = value if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(
            f"{name}={reprlib.repr(value)} is not a sequence of token ids; pass integers, from the model's tokenizer"
        ) from None
    if ids.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(ids.shape)}, which cannot be continued; pass at least one prompt, each with at "
            f"least one token, such as the end-of-text token"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {ids.dtype}, expected integers; pass token ids")
    return ids.long()


def _rows(prompt_ids: Any) -> list[Tensor] | Tensor:
    """Return several prompts as a list of rows; return a single prompt, or a batch, as a (batch, prompt) tensor."""
    if not hasattr(prompt_ids, "ndim") and hasattr(prompt_ids, "__len__") and not isinstance(prompt_ids, str | bytes):
        # An item is a row if it has a length. Numbers, and tensors without dimensions, are ids of a single prompt.
        items = list(prompt_ids)
        if any(getattr(item, "ndim", 0) or (hasattr(item, "__len__") and not hasattr(item, "ndim")) for item in items):
            rows = [_integers(item, f"prompt_ids[{index}]") for index, item in enumerate(items)]
            for index, row in enumerate(rows):
                if row.dim() != 1:
                    raise ValueError(
                        f"prompt_ids[{index}] has shape {tuple(row.shape)}; "
                        f"each of several prompts must be one sequence of token ids"
                    )
            return rows
    ids = _integers(prompt_ids, "prompt_ids")
    if ids.dim() not in (1, 2):
        raise ValueError(
            f"prompt_ids have shape {tuple(ids.shape)}; pass (batch, prompt), or (prompt,) for a single prompt"
        )
    return ids.unsqueeze(0) if ids.dim() == 1 else ids


def as_batch(prompt_ids: Prompts, vocab_size: int, device: torch.device, pad_id: int) -> PromptBatch:
    """Return prompts in any form as one batch.

    Raises:
        ValueError: If there is no prompt, a prompt is empty, or an item is not an id of the vocabulary.
    """
    rows = _rows(prompt_ids)
    all_ids = rows if isinstance(rows, Tensor) else torch.cat([row.to(rows[0].device) for row in rows])
    low, high = int(all_ids.min()), int(all_ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"prompt_ids range from {low} to {high}, but vocab_size={vocab_size}; encode with the model's tokenizer"
        )
    if isinstance(rows, Tensor):
        return PromptBatch(rows.to(device), None, 0)
    longest = max(len(row) for row in rows)
    padding = [longest - len(row) for row in rows]
    ids = all_ids.new_full((len(rows), longest), pad_id)
    for index, row in enumerate(rows):
        ids[index, padding[index] :] = row
    if not any(padding):
        return PromptBatch(ids.to(device), None, 0)
    return PromptBatch(ids.to(device), torch.tensor(padding, device=device), max(padding))
