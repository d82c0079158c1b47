"""Continuing a text token by token."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.cache import KeyValueCache
from nnscratch.functional import softmax
from nnscratch.transformer import TransformerLM

Prompt = Int[Tensor, "batch prompt"] | Int[Tensor, "prompt"] | Sequence[int]


def _as_batch(model: TransformerLM, prompt_ids: Prompt) -> Tensor:
    """Return the prompt as (batch, prompt) on the model's device."""
    device = model.token_embeddings.weight.device
    ids = torch.as_tensor(prompt_ids, dtype=None if len(prompt_ids) else torch.long)
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"prompt_ids have dtype {ids.dtype}, expected integers; pass token ids")
    ids = ids.to(device, torch.long)
    ids = ids.unsqueeze(0) if ids.dim() == 1 else ids
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(
            f"prompt_ids of shape {tuple(ids.shape)} cannot be continued; pass (batch, prompt) with at least one token"
        )
    low, high, vocab_size = int(ids.min()), int(ids.max()), model.config.vocab_size
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"prompt_ids span {low} to {high}, but vocab_size={vocab_size}; encode with the model's tokenizer"
        )
    return ids


def _check_options(max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} is negative; choose at least 0")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature={temperature!r} is out of range; choose 0 (greedy) or a positive number")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k!r} leaves no token; choose at least 1, or None for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p!r} is out of range; choose a number above 0 and at most 1, or None for all")


def next_token_probabilities(
    logits: Float[Tensor, "batch vocab_size"], temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "batch vocab_size"]:
    """Return softmax(logits / temperature), cut down to the likeliest tokens and scaled to a sum of 1.

    Args:
        logits: scores of the next token.
        temperature: above 0; below 1 it sharpens the distribution, above 1 it flattens it.
        top_k: keep the `top_k` likeliest (Fan et al. 2018).
        top_p: of those, keep the fewest whose probabilities sum to `top_p` at least (Holtzman et al. 2020).
    """
    # Subtracting the maximum first keeps a tiny temperature from making inf - inf.
    logits = logits.float()
    probabilities = softmax((logits - logits.amax(-1, keepdim=True)) / temperature, dim=-1)
    if top_k is None and top_p is None:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = 0
        ordered = ordered / ordered.sum(-1, keepdim=True)
    if top_p is not None:
        before = ordered.cumsum(-1) - ordered
        before[:, 0] = 0  # whatever the rounding, the likeliest token stays
        ordered = ordered.masked_fill(before >= top_p, 0)
    kept = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
    return kept / kept.sum(-1, keepdim=True)


def _steps(
    model: TransformerLM,
    ids: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    use_cache: bool,
) -> Iterator[Tensor]:
    """Yield the next token of each row, (batch,), `max_new_tokens` times."""
    generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
    window = model.config.context_length
    cache = KeyValueCache(model.config.num_layers, window) if use_cache else None
    fresh = ids
    for _ in range(max_new_tokens):
        if cache is not None and cache.length + fresh.shape[1] <= window:
            logits = model(fresh, cache)[:, -1]
        else:
            # Beyond the window each token changes every position, so nothing that was kept is of use.
            cache = None if ids.shape[1] >= window else cache
            logits = model(ids[:, -window:])[:, -1]
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
            token = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
        yield token
        fresh = token.unsqueeze(-1)
        ids = torch.cat((ids, fresh), dim=1)


@torch.no_grad()
def generate(
    model: TransformerLM,
    prompt_ids: Prompt,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "batch total"]:
    """Return the prompts with up to `max_new_tokens` tokens after each, (batch, prompt + new).

    Beyond `context_length` the model sees the last `context_length` tokens, computed anew for each token, so the result
    does not depend on `use_cache`, but the speed does not profit from it any more.

    Args:
        model: the model.
        prompt_ids: prompts of one length; a single one may be a list or of one dimension.
        max_new_tokens: the most tokens to add.
        temperature: 0 takes the likeliest token; 1 draws from the model's distribution.
        top_k: draw only from the `top_k` likeliest tokens.
        top_p: draw only from the fewest tokens that have this probability together.
        eos_id: a row ends with this token, and is filled up with it while others go on.
        seed: for draws that can be repeated; by default torch's global generator is used.
        use_cache: keep keys and values of earlier positions.

    Raises:
        ValueError: if the prompt is empty, holds an id outside of the vocabulary, or an option is out of range.
    """
    _check_options(max_new_tokens, temperature, top_k, top_p)
    ids = _as_batch(model, prompt_ids)
    finished = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
    columns = [ids]
    for token in _steps(model, ids, max_new_tokens, temperature, top_k, top_p, seed, use_cache):
        if eos_id is not None:
            token = token.masked_fill(finished, eos_id)
            finished |= token == eos_id
        columns.append(token.unsqueeze(-1))
        if eos_id is not None and bool(finished.all()):
            break
    return torch.cat(columns, dim=1)


def stream(
    model: TransformerLM,
    prompt_ids: Prompt,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[int]:
    """Return an iterator over the tokens that `generate` would add to one prompt, each as soon as it is there.

    The token `eos_id` is the last one if it comes. The arguments are those of `generate` and are checked at once.

    Raises:
        ValueError: if there is more than one prompt, or `generate` would refuse an argument.
    """
    _check_options(max_new_tokens, temperature, top_k, top_p)
    ids = _as_batch(model, prompt_ids)
    if ids.shape[0] != 1:
        raise ValueError(f"prompt_ids of shape {tuple(ids.shape)} are several prompts; stream one, or use generate")

    @torch.no_grad()
    def tokens() -> Iterator[int]:
        for token in _steps(model, ids, max_new_tokens, temperature, top_k, top_p, seed, use_cache):
            yield int(token)
            if int(token) == eos_id:
                return

    return tokens()
