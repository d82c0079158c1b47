"""Writing: tokens drawn from a model one after the other, with a cache of keys and values."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.cache import KeyValueCache
from nnscratch.functional import softmax
from nnscratch.transformer import TransformerLM


def next_token(
    logits: Float[Tensor, "batch vocab"],
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> Int[Tensor, "batch"]:
    """Draw one token per row: logits / temperature, the `top_k` likeliest, then the nucleus of mass `top_p`.

    The nucleus (Holtzman et al. 2020, arXiv:1904.09751) is the smallest set of likeliest tokens whose probabilities sum
    to at least `top_p`; it always holds one. Temperature 0 takes the likeliest token.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = softmax(logits, -1)
    if top_p is not None and top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0  # the mass before it suffices already
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


@torch.no_grad()
def _tokens(
    model: TransformerLM,
    prompt_ids: Int[Tensor, "batch prompt"],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
) -> Iterator[Int[Tensor, "batch"]]:
    """The new tokens of all rows, one step at a time.

    While everything fits into the context, each step computes one token. Beyond it, the positions in the cache would
    be wrong, so each step reads the last `context_length` tokens again: slower, and what lies before is forgotten.
    """
    generator = None
    if seed is not None:
        generator = torch.Generator(prompt_ids.device).manual_seed(seed)
    context_length = model.config.context_length
    cache = KeyValueCache(model.config.num_layers, context_length)
    token_ids, new = prompt_ids, prompt_ids
    for _ in range(max_new_tokens):
        if token_ids.shape[1] <= context_length:
            logits = model.lm_head(model.hidden(new, cache)[:, -1])
        else:
            logits = model.lm_head(model.hidden(token_ids[:, -context_length:])[:, -1])
        chosen = next_token(logits, temperature, top_k, top_p, generator)
        yield chosen
        new = chosen[:, None]
        token_ids = torch.cat((token_ids, new), 1)


def generate(
    model: TransformerLM,
    prompt_ids: Int[Tensor, "batch prompt"],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
) -> Int[Tensor, "batch total"]:
    """Continue every prompt of a batch.

    Args:
        model: the language model; it is put into evaluation mode for the call.
        prompt_ids: prompts of equal length, at least one token each; int64.
        max_new_tokens: tokens to add; it ends earlier when every row has written `eos_id`.
        temperature: divides the logits; 0 is greedy.
        top_k: draw among the k likeliest tokens only.
        top_p: draw among the likeliest tokens that together have this probability only.
        eos_id: a row that has written this token is filled up with it.
        seed: for a generator of this call's own; None uses PyTorch's global one.

    Returns:
        Prompts and continuations, (batch, prompt + new), int64.

    Raises:
        ValueError: an argument outside of its range.
    """
    _check(prompt_ids, max_new_tokens, temperature, top_k, top_p)
    rows = [prompt_ids]
    ended = torch.zeros(prompt_ids.shape[0], dtype=torch.bool, device=prompt_ids.device)
    was_training = model.training
    model.eval()
    try:
        for chosen in _tokens(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, seed):
            if eos_id is not None:
                chosen = chosen.masked_fill(ended, eos_id)
                ended |= chosen == eos_id
            rows.append(chosen[:, None])
            if ended.all():
                break
    finally:
        model.train(was_training)
    return torch.cat(rows, 1)


def stream(
    model: TransformerLM,
    prompt_ids: Int[Tensor, "*one prompt"],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Continue one prompt, (prompt,) or (1, prompt), and yield each new token as soon as it is drawn.

    Arguments as those of `generate`; `eos_id` ends the stream and is not yielded.

    Raises:
        ValueError: an argument outside of its range, or more than one prompt.
    """
    if prompt_ids.ndim == 1:
        prompt_ids = prompt_ids[None]
    _check(prompt_ids, max_new_tokens, temperature, top_k, top_p)
    if prompt_ids.shape[0] != 1:
        raise ValueError(f"got {prompt_ids.shape[0]} prompts: expected one; generate takes several")
    for chosen in _tokens(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, seed):
        token_id = int(chosen)
        if token_id == eos_id:
            return
        yield token_id


def _check(prompt_ids: Tensor, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if prompt_ids.ndim != 2 or prompt_ids.shape[1] == 0:
        raise ValueError(
            f"prompt_ids has shape {tuple(prompt_ids.shape)}: expected (batch, prompt) with a token or more"
        )
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}: expected 0 or more")
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature!r}: expected 0 (greedy) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k!r}: expected 1 or more, or None for all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p!r}: expected above 0 and at most 1, or None for all tokens")
