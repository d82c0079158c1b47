"""Decoding: continuing texts token by token."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.cache import KeyValueCache
from nnscratch.generation.prompts import PromptBatch, Prompts, as_batch, check_token_id
from nnscratch.generation.sampling import Sampler, is_integer
from nnscratch.language_model import LanguageModel


@torch.inference_mode()
def _steps(
    model: LanguageModel, prompts: PromptBatch, max_new_tokens: int, sampler: Sampler, use_cache: bool
) -> Iterator[tuple[Int[Tensor, "batch"], Float[Tensor, "batch vocab_size"]]]:
    """Yield the next token of each row and the logits from which it was chosen, `max_new_tokens` times."""
    window = model.config.context_length
    columns = prompts.ids.shape[1]
    recent = fresh = prompts.ids[:, -window:]
    cache = None
    if use_cache and columns <= window and max_new_tokens > 1:
        # The last new token is never an input.
        cache = KeyValueCache(model.config.num_layers, min(window, fresh.shape[1] + max_new_tokens - 1))
    for _ in range(max_new_tokens):
        if cache is not None and cache.length + fresh.shape[1] <= window:
            inputs, padding = fresh, prompts.padding
        else:
            # Beyond the window each new token shifts every position, so the cache is wrong from now on.
            cache = None
            gone = columns - recent.shape[1]
            padding = None
            if prompts.padding is not None and prompts.most_padding > gone:
                padding = (prompts.padding - gone).clamp_(min=0)
            inputs = recent
        with _evaluation_mode(model):
            logits = model.next_token_logits(inputs, cache, padding)
        tokens = sampler(logits)
        yield tokens, logits
        fresh = tokens.unsqueeze(-1)
        recent = torch.cat((recent, fresh), dim=1)[:, -window:]
        columns += 1


@contextmanager
def _evaluation_mode(model: LanguageModel) -> Iterator[None]:
    """Drop nothing within the context; modules return to their own modes."""
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _prepare(
    model: LanguageModel,
    prompt_ids: Prompts,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    eos_id: int | None,
    pad_id: int | None,
    seed: int | None,
) -> tuple[PromptBatch, Sampler]:
    """Check the arguments and return the prompts as a batch, and the sampler of their next tokens."""
    if not is_integer(max_new_tokens) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} is out of range; choose an integer of at least 0")
    vocab_size, device = model.config.vocab_size, model.token_embeddings.weight.device
    check_token_id("eos_id", eos_id, vocab_size)
    check_token_id("pad_id", pad_id, vocab_size)
    if pad_id is None:
        pad_id = 0 if eos_id is None else eos_id
    prompts = as_batch(prompt_ids, vocab_size, device, pad_id)
    return prompts, Sampler(prompts.ids.shape[0], device, temperature, top_k, top_p, seed)


def _continue(
    model: LanguageModel,
    prompts: PromptBatch,
    sampler: Sampler,
    max_new_tokens: int,
    eos_id: int | None,
    use_cache: bool,
) -> Int[Tensor, "batch new"]:
    """Return the new tokens until all rows have ended, with rows that ended early filled up with `eos_id`."""
    columns = [prompts.ids[:, :0]]
    finished = torch.zeros(prompts.ids.shape[0], dtype=torch.bool, device=prompts.ids.device)
    for tokens, _ in _steps(model, prompts, max_new_tokens, sampler, use_cache):
        if eos_id is None:
            columns.append(tokens.unsqueeze(-1))
            continue
        tokens = tokens.masked_fill(finished, eos_id)
        columns.append(tokens.unsqueeze(-1))
        finished |= tokens == eos_id
        if bool(finished.all()):
            break
    return torch.cat(columns, dim=1)


def generate(
    model: LanguageModel,
    prompt_ids: Prompts,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    pad_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "batch total"]:
    """Return the prompts, each followed by up to `max_new_tokens` tokens; (batch, longest prompt + new).

    Prompts of different lengths are padded on the left. Positions of a row start at its first token and nothing attends
    to padding, so each prompt is continued as it would be alone.

    The model sees the last `context_length` tokens of a row. Once the longest row exceeds them, the window slides,
    cached positions become wrong, and every new token costs a full forward pass.

    Batching, padding and the cache change the order of sums, so results are equal up to rounding. In float32 rounding
    changes a token only where two scores agree in six digits. In bfloat16 scores often agree in all of their two or
    three digits, so tokens may differ.

    Args:
        model: The model. Training mode has no effect; gradients are not tracked.
        prompt_ids: One prompt, a tensor of several, or a sequence of several of any lengths.
        max_new_tokens: Maximum number of new tokens; 0 returns the prompts.
        temperature: 0 chooses the most likely token; 1 samples from the model's distribution.
        top_k: Sample only from the `top_k` most likely tokens.
        top_p: Sample only from the smallest set of tokens with this total probability, after `top_k`.
        eos_id: A row ends with this token and is filled up with it while other rows continue.
        pad_id: Id before the shorter prompts; by default `eos_id`, or else 0.
        seed: Seed for repeatable samples, which leaves torch's global generator untouched; without it the global
            generator seeds the samples. Each row has random numbers of its own, which depend only on the seed and the
            index of the row, not on other rows, the batch size or `max_new_tokens`.
        use_cache: Keep keys and values of earlier positions.

    Raises:
        ValueError: If a prompt is empty or holds an id outside the vocabulary, an option is out of range, or the
            model's scores are not finite.
    """
    prompts, sampler = _prepare(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, eos_id, pad_id, seed)
    new = _continue(model, prompts, sampler, max_new_tokens, eos_id, use_cache)
    return torch.cat((prompts.ids, new), dim=1)


def complete(
    model: LanguageModel,
    prompt_ids: Prompts,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> list[list[int]]:
    """Return only the tokens that `generate` adds to each prompt, up to and including the first `eos_id`.

    The arguments are those of `generate`.

    Raises:
        ValueError: As in `generate`.
    """
    prompts, sampler = _prepare(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, eos_id, None, seed)
    rows = _continue(model, prompts, sampler, max_new_tokens, eos_id, use_cache).tolist()
    return [row[: row.index(eos_id) + 1] if eos_id in row else row for row in rows]


def stream(
    model: LanguageModel,
    prompt_ids: Prompts,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[int]:
    """Return an iterator over the tokens that `generate` would add to one prompt, each as soon as it is chosen.

    The first `eos_id` is the last token. The arguments are those of `generate` and are checked immediately.

    Raises:
        ValueError: If there is more than one prompt, or `generate` would refuse an argument.
    """
    steps = stream_with_logits(
        model,
        prompt_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        eos_id=eos_id,
        seed=seed,
        use_cache=use_cache,
    )
    return (token for token, _ in steps)


def stream_with_logits(
    model: LanguageModel,
    prompt_ids: Prompts,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[tuple[int, Float[Tensor, "vocab_size"]]]:
    """Return an iterator over the tokens of `stream`, each with the logits from which it was chosen.

    `next_token_probabilities(logits, temperature, top_k, top_p)` gives the probability that each token had.

    Raises:
        ValueError: As in `stream`.
    """
    prompts, sampler = _prepare(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, eos_id, None, seed)
    if prompts.ids.shape[0] != 1:
        shape = tuple(prompts.ids.shape)
        raise ValueError(f"prompt_ids of shape {shape} are several prompts, expected one; stream one, or use generate")

    def steps() -> Iterator[tuple[int, Float[Tensor, "vocab_size"]]]:
        for token, logits in _steps(model, prompts, max_new_tokens, sampler, use_cache):
            yield int(token), logits[0]
            if int(token) == eos_id:
                return

    return steps()


def stream_rows(
    model: LanguageModel,
    prompt_ids: Prompts,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[list[int]]:
    """Return an iterator over the next tokens of all prompts, one list per step, as soon as they are chosen.

    The tokens are those of `generate` without an `eos_id`, whose arguments these are; they are checked immediately.

    Raises:
        ValueError: As in `generate`.
    """
    prompts, sampler = _prepare(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, None, None, seed)
    return (tokens.tolist() for tokens, _ in _steps(model, prompts, max_new_tokens, sampler, use_cache))
