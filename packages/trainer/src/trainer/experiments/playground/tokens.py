"""Stories token by token, each with its probability and its alternatives."""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainer.experiments.playground.story_request import RequestError, StoryRequest
from trainer.experiments.runs import ModelPackage, Sampling

ALTERNATIVES = 10


@dataclass(frozen=True)
class Candidate:
    """A token that could come next."""

    id: int
    label: str
    """Its text; for a part of a character, its bytes in hexadecimal."""
    chance: float
    """Its probability when sampling, at this temperature and after top-k and top-p; 0 if these exclude it."""
    probability: float
    """Its probability according to the model alone: temperature 1, nothing excluded."""


@dataclass(frozen=True)
class Token:
    """A token of the story."""

    chosen: Candidate
    text: str
    """The whole characters that it adds to the text, including those begun by the token before. Empty for the end of
    text, and while a character is incomplete."""
    rank: int
    """1 for the most likely token."""
    ends: bool
    """True for the end-of-text token."""
    alternatives: tuple[Candidate, ...]
    """The most likely tokens, in falling order; the chosen one may be among them."""


def write_tokens(models: ModelPackage, model: Any, tokenizer: Any, request: StoryRequest) -> Iterator[Token]:
    """Continue a story, token by token; for a prompt alone, the joined texts equal those of `generate` with that seed.

    A token chosen by the user comes first and counts towards `max_new_tokens`.

    Raises:
        RequestError: Immediately, if the prompt exceeds the model's context or an id is not in the vocabulary.
    """
    ids = _start(model, tokenizer, request)
    if request.next_token is not None and request.next_token >= tokenizer.vocab_size:
        expected = f"expected an id below {tokenizer.vocab_size:,}"
        raise RequestError(f"next token is {request.next_token}: {expected}", "next_token")
    return _tokens(models, model, tokenizer, request, ids)


def _start(model: Any, tokenizer: Any, request: StoryRequest) -> list[int]:
    """The ids of the prompt and of the story so far."""
    prompt = tokenizer.encode(request.prompt)
    context = model.config.context_length
    if len(prompt) > context:
        raise RequestError(
            f"the beginning is {len(prompt):,} tokens long ({len(request.prompt):,} characters): expected at most the "
            f"{context:,} tokens that this model reads; shorten it",
            "prompt",
        )
    for token in request.story:
        if not 0 <= token < tokenizer.vocab_size:
            raise RequestError(f"story holds {token}: expected token ids below {tokenizer.vocab_size:,}", "story")
    return prompt + list(request.story)


def _tokens(models: ModelPackage, model: Any, tokenizer: Any, request: StoryRequest, ids: list[int]) -> Iterator[Token]:
    decoder = getincrementaldecoder("utf-8")("replace")
    decoder.decode(tokenizer.decode_bytes(request.story))  # the last character may be incomplete
    left = request.sampling.max_new_tokens
    for token, logits in _steps(models, model, tokenizer, request, ids):
        left -= 1
        ends = token == tokenizer.eot_id
        text = decoder.decode(b"" if ends else tokenizer.decode_bytes([token]), final=ends or left == 0)
        yield _described(models, tokenizer, token, text, logits, request.sampling)


def _steps(
    models: ModelPackage, model: Any, tokenizer: Any, request: StoryRequest, ids: list[int]
) -> Iterator[tuple[int, Tensor]]:
    """Each token with the logits, (vocab_size,), that it was drawn from."""
    count = request.sampling.max_new_tokens
    if request.next_token is not None:
        recent = torch.tensor([ids[-model.config.context_length :]], device=model.token_embeddings.weight.device)
        with torch.inference_mode():
            logits = model.next_token_logits(recent)[0]
        yield request.next_token, logits
        if request.next_token == tokenizer.eot_id:
            return
        ids, count = [*ids, request.next_token], count - 1
    yield from models.stream_with_logits(
        model,
        ids,
        eos_id=tokenizer.eot_id,
        **asdict(replace(request.sampling, max_new_tokens=count)),
    )


@torch.inference_mode()
def _described(
    models: ModelPackage, tokenizer: Any, token: int, text: str, logits: Tensor, sampling: Sampling
) -> Token:
    plain = models.next_token_probabilities(logits[None], 1.0)[0]
    if sampling.temperature == 0:
        chances = torch.zeros_like(plain).index_fill_(0, logits.max(-1).indices, 1.0)
    else:
        chances = models.next_token_probabilities(logits[None], sampling.temperature, sampling.top_k, sampling.top_p)[0]
    likeliest = plain.topk(min(ALTERNATIVES, len(plain))).indices
    shown = torch.cat((likeliest, likeliest.new_tensor([token])))
    candidates = [
        Candidate(id_, label(tokenizer, id_), chance, probability)
        for id_, chance, probability in zip(shown.tolist(), chances[shown].tolist(), plain[shown].tolist(), strict=True)
    ]
    return Token(
        chosen=candidates[-1],
        text=text,
        rank=int((plain > plain[token]).sum()) + 1,
        ends=token == tokenizer.eot_id,
        alternatives=tuple(candidates[:-1]),
    )


def label(tokenizer: Any, token: int) -> str:
    """The text of a single token, or the bytes of a partial character in angle brackets."""
    data = tokenizer.decode_bytes([token])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"⟨{data.hex(' ').upper()}⟩"
