"""Continuing texts token by token."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.generation.cache import KeyValueCache
from nnscratch.generation.prompts import PromptBatch, Prompts, as_batch, check_token_id
from nnscratch.generation.sampling import Sampler, is_integer
from nnscratch.language_model import LanguageModel


class _RecentTokens:
    """The last `window` columns of prompts and what was added, as views of a buffer that never grows."""

    def __init__(self, prompts: PromptBatch, window: int, steps: int) -> None:
        ids = prompts.ids[:, -window:]
        self._prompts, self._window = prompts, window
        self._columns = prompts.ids.shape[1]
        self._end = ids.shape[1]
        self._buffer = ids.new_empty(ids.shape[0], min(self._end + steps, 2 * window))
        self._buffer[:, : self._end] = ids

    @property
    def ids(self) -> Int[Tensor, "batch recent"]:
        """The ids."""
        return self._buffer[:, max(0, self._end - self._window) : self._end]

    @property
    def padding(self) -> Int[Tensor, "batch"] | None:
        """How many of them are padding; None if none is."""
        gone = max(0, self._columns - self._window)
        if self._prompts.padding is None or self._prompts.most_padding <= gone:
            return None
        return (self._prompts.padding - gone).clamp_(min=0)

    def append(self, tokens: Int[Tensor, "batch"]) -> None:
        """Add a column."""
        if self._end == self._buffer.shape[1]:
            self._buffer[:, : self._window] = self._buffer[:, self._end - self._window :]
            self._end = self._window
        self._buffer[:, self._end] = tokens
        self._end += 1
        self._columns += 1


@torch.inference_mode()
def _steps(
    model: LanguageModel, prompts: PromptBatch, max_new_tokens: int, sampler: Sampler, use_cache: bool
) -> Iterator[tuple[Int[Tensor, "batch"], Float[Tensor, "batch vocab_size"]]]:
    """Yield the next token of each row and the logits that it was chosen by, `max_new_tokens` times."""
    window = model.config.context_length
    recent = _RecentTokens(prompts, window, max_new_tokens)
    fresh, cache = recent.ids, None
    if use_cache and prompts.ids.shape[1] <= window and max_new_tokens > 1:
        # The last token is never the model's input.
        cache = KeyValueCache(model.config.num_layers, min(window, fresh.shape[1] + max_new_tokens - 1))
    for _ in range(max_new_tokens):
        if cache is not None and cache.length + fresh.shape[1] <= window:
            logits = model.next_token_logits(fresh, cache, prompts.padding)
        else:
            # Beyond the window each token changes every position, so nothing that was kept is of use.
            cache = None
            logits = model.next_token_logits(recent.ids, padding=recent.padding)
        tokens = sampler(logits)
        yield tokens, logits
        fresh = tokens.unsqueeze(-1)
        recent.append(tokens)


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
    """Check the arguments and return the prompts and what chooses their next tokens."""
    if not is_integer(max_new_tokens) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} is no number of tokens; choose an integer of at least 0")
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
    """Return the new tokens; rows that have ended are filled up with `eos_id`, and when all have, no more come."""
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
    """Return the prompts with up to `max_new_tokens` tokens after each, (batch, longest prompt + new).

    Prompts of different lengths are padded on the left. A row's positions start at its first token and nothing attends
    to the padding, so each prompt is continued as it would be alone.

    A row sees its own last `context_length` tokens, of its prompt too if that is longer. Once the longest row has
    outgrown them, all rows are computed anew for each token: the cache is of no use any more, and the speed is lost.

    A batch, padding and the cache change the order of sums, so results are the same up to rounding. In float32 that
    takes two scores that are equal in six digits to show in the tokens; in bfloat16 scores often are equal in all of
    its two or three digits, and then the same tokens are not promised.

    Args:
        model: the model. That it is in training mode is of no matter, and no gradient is kept.
        prompt_ids: one prompt, a tensor of several, or a sequence of several of any lengths.
        max_new_tokens: the most tokens to add; 0 returns the prompts.
        temperature: 0 takes the likeliest token; 1 draws from the model's distribution.
        top_k: draw only from the `top_k` likeliest tokens.
        top_p: draw only from the fewest tokens that have this probability together, after `top_k`.
        eos_id: a row ends with this token, and is filled up with it while others go on.
        pad_id: what is written before the shorter prompts; by default `eos_id`, or else 0.
        seed: for draws that can be repeated; torch's global generator is not touched then, and gives the start of the
            draws otherwise. Each row has its own draws, which depend on the seed and the row's number alone: not on
            other rows, the size of the batch or `max_new_tokens`.
        use_cache: keep keys and values of earlier positions, for as many as there can be.

    Raises:
        ValueError: if a prompt is empty or holds what is no id of the vocabulary, an option is out of range, or the
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
    """Return only the tokens that `generate` adds to each prompt, of which `eos_id` is the last if it comes.

    The arguments are those of `generate`.

    Raises:
        ValueError: as `generate`.
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
    """Return an iterator over the tokens that `generate` would add to one prompt, each as soon as it is there.

    The token `eos_id` is the last one if it comes. The arguments are those of `generate` and are checked at once.

    Raises:
        ValueError: if there is more than one prompt, or `generate` would refuse an argument.
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
    """Return an iterator over the tokens of `stream`, each with the model's logits that it was chosen by.

    What any token's chance was is in `next_token_probabilities(logits, temperature, top_k, top_p)`.

    Raises:
        ValueError: as `stream`.
    """
    prompts, sampler = _prepare(model, prompt_ids, max_new_tokens, temperature, top_k, top_p, eos_id, None, seed)
    if prompts.ids.shape[0] != 1:
        shape = tuple(prompts.ids.shape)
        raise ValueError(f"prompt_ids of shape {shape} are several prompts; stream one, or use generate")

    def steps() -> Iterator[tuple[int, Float[Tensor, "vocab_size"]]]:
        for token, logits in _steps(model, prompts, max_new_tokens, sampler, use_cache):
            yield int(token), logits[0]
            if int(token) == eos_id:
                return

    return steps()
