"""Requests of the page, read and checked."""

import json
import math
import sys
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from trainer.experiments.runs import Sampling

MAX_BODY_BYTES = 262_144
MAX_NEW_TOKENS = 4096
MAX_TEMPERATURE = 10


class RequestError(ValueError):
    """A request that cannot be fulfilled; the message names the value that arrived and the expected one.

    Args:
        message: Message for the user.
        field: Name of the wrong value; None if the whole request is wrong.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class StoryRequest:
    """A beginning, and settings for its continuation; defaults are those of `generate`."""

    prompt: str
    """The text to continue."""
    story: tuple[int, ...] = ()
    """Token ids already written after the prompt."""
    next_token: int | None = None
    """The id of the next token, chosen by the user; the model continues from there."""
    sampling: Sampling = field(default_factory=Sampling)
    """Choice of the following tokens."""


def read_story_request(body: bytes) -> StoryRequest:
    """Read a request from JSON.

    Raises:
        RequestError: It is no JSON object, or a value is missing, unknown, of another type or out of range.
    """
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON ({error}): expected an object with a prompt") from None
    if not isinstance(values, dict):
        raise RequestError(f"the request is {_shown(values)}: expected a JSON object with a prompt")
    names = {name.name for of in (StoryRequest, Sampling) for name in fields(of)} - {"sampling"}
    if unknown := values.keys() - names:
        raise RequestError(f"unknown in the request: {_shown(min(unknown))}; expected {', '.join(sorted(names))}")
    prompt = values.get("prompt", "")
    if not isinstance(prompt, str):
        raise RequestError(f"the beginning is {_shown(prompt)}: expected text", "prompt")
    if not prompt:
        raise RequestError("the beginning is empty: expected some text to continue", "prompt")
    story = values.get("story", [])
    if not isinstance(story, list) or not all(_is_integer(token) for token in story):
        raise RequestError(f"story is {_shown(story)}: expected a list of token ids", "story")
    plain = Sampling()
    next_token = values.get("next_token")
    if next_token is not None:
        next_token = _integer(next_token, "next_token", "next token", 0, sys.maxsize)
    top_k, top_p = values.get("top_k", plain.top_k), values.get("top_p", plain.top_p)
    sampling = Sampling(
        max_new_tokens=_integer(
            values.get("max_new_tokens", plain.max_new_tokens), "max_new_tokens", "length", 1, MAX_NEW_TOKENS
        ),
        temperature=_temperature(values.get("temperature", plain.temperature)),
        top_k=None if top_k is None else _integer(top_k, "top_k", "top-k", 1, sys.maxsize),
        top_p=None if top_p is None else _top_p(top_p),
        seed=_integer(values.get("seed", plain.seed), "seed", "seed", 0, sys.maxsize),
    )
    return StoryRequest(prompt, tuple(story), next_token, sampling)


def _temperature(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= MAX_TEMPERATURE:
        expected = f"a number from 0 (always the most likely token) to {MAX_TEMPERATURE}"
        raise RequestError(f"temperature is {_shown(value)}: expected {expected}", "temperature")
    return float(value)


def _top_p(value: Any) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise RequestError(f"top-p is {_shown(value)}: expected a number above 0 and at most 1", "top_p")
    return float(value)


def _integer(value: Any, name: str, title: str, lowest: int, highest: int) -> int:
    if not _is_integer(value) or not lowest <= value <= highest:
        expected = f"at least {lowest}" if highest == sys.maxsize else f"from {lowest} to {highest:,}"
        raise RequestError(f"{title} is {_shown(value)}: expected a whole number, {expected}", name)
    return int(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _shown(value: object) -> str:
    """A value as it arrived, truncated."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates
    return text if len(text) <= 40 else text[:40] + " …"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
