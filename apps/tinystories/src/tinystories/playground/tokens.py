"""A story token by token: the chance that each one had, and that others had in its place."""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bpe import Tokenizer
from nnscratch import TransformerLM, next_token_probabilities, stream_with_logits
from tinystories.flags import SamplingFlags
from tinystories.playground.story_request import RequestError, StoryRequest

ALTERNATIVES = 10


@dataclass(frozen=True)
class Candidate:
    """A token that could come next."""

    id: int
    label: str
    """Its text; where it is only a part of a character, its bytes in hexadecimal."""
    chance: float
    """Its probability as it is drawn: at this temperature, after top-k and top-p; 0 if these leave it out."""
    probability: float
    """Its probability by the model alone: temperature 1, nothing left out."""


@dataclass(frozen=True)
class Token:
    """A token of the story."""

    chosen: Candidate
    text: str
    """What it adds to the text: whole characters, also those that began in the token before. Empty for the end of text,
    and as long as a character is not complete."""
    rank: int
    """1 if no token is likelier."""
    ends: bool
    """Whether it is the end of text."""
    alternatives: tuple[Candidate, ...]
    """The likeliest tokens, the likeliest first; the chosen one may be among them."""


def write_tokens(model: TransformerLM, tokenizer: Tokenizer, request: StoryRequest) -> Iterator[Token]:
    """Continue a story, token by token. For a prompt alone, the texts joined are what `generate` writes with that seed.

    A token that the user chose is the first one and counts as one of `max_new_tokens`.

    Raises:
        RequestError: at once, if the prompt is longer than the model's context, or an id is not in the vocabulary.
    """
    ids = _start(model, tokenizer, request)
    if request.next_token is not None and request.next_token >= tokenizer.vocab_size:
        expected = f"expected an id below {tokenizer.vocab_size:,}"
        raise RequestError(f"next token is {request.next_token}: {expected}", "next_token")
    return _tokens(model, tokenizer, request, ids)


def _start(model: TransformerLM, tokenizer: Tokenizer, request: StoryRequest) -> list[int]:
    """The ids of the prompt and of what was written already."""
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


def _tokens(model: TransformerLM, tokenizer: Tokenizer, request: StoryRequest, ids: list[int]) -> Iterator[Token]:
    decoder = getincrementaldecoder("utf-8")("replace")
    decoder.decode(tokenizer.decode_bytes(request.story))  # the last character may be incomplete
    left = request.sampling.max_new_tokens
    for token, logits in _steps(model, tokenizer, request, ids):
        left -= 1
        ends = token == tokenizer.eot_id
        text = decoder.decode(b"" if ends else tokenizer.decode_bytes([token]), final=ends or left == 0)
        yield _described(tokenizer, token, text, logits, request.sampling)


def _steps(
    model: TransformerLM, tokenizer: Tokenizer, request: StoryRequest, ids: list[int]
) -> Iterator[tuple[int, Tensor]]:
    """Each token and the logits, (vocab_size,), in whose place it came."""
    count = request.sampling.max_new_tokens
    if request.next_token is not None:
        recent = torch.tensor([ids[-model.config.context_length :]], device=model.token_embeddings.weight.device)
        with torch.inference_mode():
            logits = model.next_token_logits(recent)[0]
        yield request.next_token, logits
        if request.next_token == tokenizer.eot_id:
            return
        ids, count = [*ids, request.next_token], count - 1
    yield from stream_with_logits(
        model,
        ids,
        max_new_tokens=count,
        temperature=request.sampling.temperature,
        top_k=request.sampling.top_k,
        top_p=request.sampling.top_p,
        eos_id=tokenizer.eot_id,
        seed=request.sampling.seed,
    )


@torch.inference_mode()
def _described(tokenizer: Tokenizer, token: int, text: str, logits: Tensor, sampling: SamplingFlags) -> Token:
    plain = next_token_probabilities(logits[None], 1.0)[0]
    if sampling.temperature == 0:
        chances = torch.zeros_like(plain).index_fill_(0, logits.max(-1).indices, 1.0)
    else:
        chances = next_token_probabilities(logits[None], sampling.temperature, sampling.top_k, sampling.top_p)[0]
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


def label(tokenizer: Tokenizer, token: int) -> str:
    """A token alone: its text, or in angle brackets the bytes of a part of a character."""
    data = tokenizer.decode_bytes([token])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"⟨{data.hex(' ').upper()}⟩"
