"""Choosing each row's next token from the model's scores."""

import math
import sys
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.functional import softmax

_DRAWN_AT_ONCE = 64  # numbers for each row: one by one, a large batch would spend its time in calls


def is_integer(value: object) -> bool:
    """Tell whether a value is a whole number of any library (a bool is none)."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _likeliest(probabilities: Float[Tensor, "batch vocab_size"], count: int) -> Int[Tensor, "batch {count}"]:
    """Return the ids of the `count` likeliest tokens, the likeliest first and of equals the lower id."""
    # The bits of floats that are not negative order as the floats do, and leave room to tell equals apart.
    ids = torch.arange(probabilities.shape[-1], device=probabilities.device)
    keys = (probabilities.view(torch.int32).long() << 32) - ids
    return keys.topk(count, dim=-1).indices


def _nucleus(
    probabilities: Float[Tensor, "batch vocab_size"], top_p: float, count: int
) -> tuple[Int[Tensor, "batch some"], Float[Tensor, "batch some"]]:
    """Return ids, among them the fewest of probability `top_p` together, and the probabilities, 0 for the others.

    Args:
        probabilities: what sums to 1 in each row.
        top_p: above 0 and below 1.
        count: how many ids to sort at first, because as a rule a few of many hold nearly everything.
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
    """Return softmax(logits / temperature), cut down to the likeliest tokens and scaled to a sum of 1, in float32.

    Of tokens that are equally likely those with the lower id are kept.

    Args:
        logits: scores of the next token.
        temperature: above 0; below 1 it sharpens the distribution, above 1 it flattens it.
        top_k: keep the `top_k` likeliest (Fan et al. 2018).
        top_p: of those, keep the fewest whose probabilities sum to `top_p` at least (Holtzman et al. 2020).
    """
    # Subtracting the maximum first keeps a tiny temperature from making inf - inf, and the bound from making 0 / 0.
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
    """Chooses the next token of each row of a batch, step by step.

    Each row has random numbers of its own, which depend on the seed and the row's number alone: neither other rows,
    nor how many there are, nor the device change what a row draws from the same probabilities.

    Args:
        batch: number of rows.
        device: where the scores will be.
        temperature: 0 takes the likeliest token, of equals the one with the lowest id.
        top_k: draw only from the `top_k` likeliest tokens.
        top_p: draw only from the fewest tokens that have this probability together.
        seed: start of all random numbers; None draws one from torch's global generator.

    Raises:
        ValueError: if an option is out of range, or, at a step, the scores are not finite.
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
            raise ValueError(f"seed={seed!r} starts no generator; choose an integer from 0 to {sys.maxsize}, or None")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._device = device
        self._generators: list[torch.Generator] = []
        if temperature > 0:
            first = None if seed is None else torch.Generator().manual_seed(int(seed))
            seeds = torch.randint(sys.maxsize, (batch,), generator=first).tolist()
            self._generators = [torch.Generator().manual_seed(row_seed) for row_seed in seeds]
        # A token of a probability below 1e-7 is too small a step for float32, but MPS has nothing wider.
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
        # Inversion: the first token up to which the sum is at least a share in (0, 1] of all. Its own part is not 0.
        return torch.searchsorted(sums, self._next_draws() * sums[:, -1:]).squeeze(-1)

    def _next_draws(self) -> Float[Tensor, "batch 1"]:
        """Return each row's next number from (0, 1]."""
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
                f"the model's scores of the token after row {row} are not finite; its weights have diverged or "
                f"overflow: load an earlier checkpoint, or use a dtype of wider range"
            )
