"""Sampling: choosing the next token of each row from the model's scores."""

import math
import sys
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.functional import softmax

_DRAWN_AT_ONCE = 64  # Random numbers per row and call of a generator: a call for each number would be too slow.


def is_integer(value: object) -> bool:
    """Return whether a value is an integer of any library (a bool is not)."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _likeliest(probabilities: Float[Tensor, "batch vocab_size"], count: int) -> Int[Tensor, "batch {count}"]:
    """Return the ids of the `count` most likely tokens in order; among equals the lower id comes first."""
    # The bits of nonnegative floats sort like the floats, and leave room for the id as a second key.
    ids = torch.arange(probabilities.shape[-1], device=probabilities.device)
    keys = (probabilities.view(torch.int32).long() << 32) - ids
    return keys.topk(count, dim=-1).indices


def _nucleus(
    probabilities: Float[Tensor, "batch vocab_size"], top_p: float, count: int
) -> tuple[Int[Tensor, "batch some"], Float[Tensor, "batch some"]]:
    """Return the most likely ids and their probabilities, set to 0 outside the smallest set with total `top_p`.

    Args:
        probabilities: Rows that sum to 1.
        top_p: Total probability, above 0 and below 1.
        count: Number of ids to sort first; more are sorted if their total is below `top_p`. Usually a few ids hold
            nearly all of the probability.
    """
    vocab_size = probabilities.shape[-1]
    while True:
        ids = _likeliest(probabilities, min(count, vocab_size))
        ordered = probabilities.gather(-1, ids)
        sums = ordered.cumsum(-1)
        if count >= vocab_size or bool((sums[:, -1] >= top_p).all()):
            ordered[:, 1:].masked_fill_(sums[:, :-1] >= top_p, 0)
            return ids, ordered
        count *= 4


def next_token_probabilities(
    logits: Float[Tensor, "batch vocab_size"], temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "batch vocab_size"]:
    """Return softmax(logits / temperature) in float32, restricted to the most likely tokens and rescaled to sum to 1.

    Among equally likely tokens the lower ids are kept. Plainly: `nnscratch.reference.next_token_probabilities`.

    Args:
        logits: Scores of the next token.
        temperature: Above 0; below 1 sharpens the distribution, above 1 flattens it.
        top_k: Keep the `top_k` most likely tokens (Fan et al. 2018).
        top_p: Of the tokens that `top_k` keeps, keep the smallest set with a total probability of at least `top_p`
            (Holtzman et al. 2020).
    """
    # Subtracting the maximum first avoids inf - inf for a tiny temperature, and `smallest` avoids 0 / 0.
    logits = logits.float()
    smallest = torch.finfo(logits.dtype).tiny
    probabilities = softmax((logits - logits.amax(-1, keepdim=True)) / max(temperature, smallest), dim=-1)
    vocab_size = probabilities.shape[-1]
    if top_k is not None and top_k < vocab_size:
        ids = _likeliest(probabilities, top_k)
        ordered = probabilities.gather(-1, ids)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, ids, ordered / ordered.sum(-1, keepdim=True))
    if top_p is not None and top_p < 1:
        ids, ordered = _nucleus(probabilities, top_p, 1024 if top_k is None else top_k)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, ids, ordered / ordered.sum(-1, keepdim=True))
    return probabilities


class Sampler:
    """Sampler of the next token of each row of a batch, step by step.

    Each row has its own random numbers, which depend only on the seed and the index of the row. The same probabilities
    therefore give the same samples on every device and in a batch of any size.

    Args:
        batch: Number of rows.
        device: Device of the scores.
        temperature: 0 chooses the most likely token, among equals the one with the lowest id.
        top_k: Sample only from the `top_k` most likely tokens.
        top_p: Sample only from the smallest set of tokens with this total probability.
        seed: Seed of all random numbers; None draws one from torch's global generator.

    Raises:
        ValueError: If an option is out of range, or the scores at a step are not finite.
    """

    def __init__(
        self,
        batch: int,
        device: torch.device,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int | None,
    ) -> None:
        if not _is_number(temperature) or not 0 <= temperature < math.inf:
            raise ValueError(f"temperature={temperature!r} is out of range; choose 0 (greedy) or a positive number")
        if top_k is not None and (not is_integer(top_k) or top_k < 1):
            raise ValueError(f"top_k={top_k!r} leaves no token; choose an integer of at least 1, or None for all")
        if top_p is not None and (not _is_number(top_p) or not 0 < top_p <= 1):
            raise ValueError(f"top_p={top_p!r} is out of range; choose a number above 0 and at most 1, or None for all")
        if seed is not None and (not is_integer(seed) or not 0 <= seed <= sys.maxsize):
            raise ValueError(f"seed={seed!r} is out of range; choose an integer from 0 to {sys.maxsize}, or None")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._device = device
        self._generators: list[torch.Generator] = []
        if temperature > 0:
            first = None if seed is None else torch.Generator().manual_seed(int(seed))
            seeds = torch.randint(sys.maxsize, (batch,), generator=first).tolist()
            self._generators = [torch.Generator().manual_seed(row_seed) for row_seed in seeds]
        # Cumulative sums in float32 lose tokens with a probability below 1e-7, but MPS has no float64.
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._draws = torch.empty(0)
        self._drawn = 0

    def __call__(self, logits: Float[Tensor, "batch vocab_size"]) -> Int[Tensor, "batch"]:
        """Return the next token of each row."""
        if self.temperature == 0:
            highest, tokens = logits.max(-1)
            self._check(highest)
            return tokens
        probabilities = next_token_probabilities(logits, self.temperature, self.top_k, self.top_p)
        sums = probabilities.to(self._dtype).cumsum(-1)
        self._check(sums[:, -1])
        # Inverse transform sampling: the first token whose cumulative sum reaches a random share of the total.
        return torch.searchsorted(sums, self._next_draws() * sums[:, -1:]).squeeze(-1)

    def _next_draws(self) -> Float[Tensor, "batch 1"]:
        """Return the next random number in (0, 1] of each row."""
        index = self._drawn % _DRAWN_AT_ONCE
        if index == 0:
            drawn = [torch.rand(_DRAWN_AT_ONCE, dtype=self._dtype, generator=row) for row in self._generators]
            self._draws = 1 - torch.stack(drawn).to(self._device)
        self._drawn += 1
        return self._draws[:, index : index + 1]

    def _check(self, values: Float[Tensor, "batch"]) -> None:
        finite = values.isfinite()
        if not bool(finite.all()):
            row = int(finite.int().argmin())
            raise ValueError(
                f"the model's scores of the next token of row {row} are not finite; its weights have diverged or "
                f"overflowed: load an earlier checkpoint, or use a dtype with a wider range"
            )
