"""Special tokens: strings that are found before the text is split into pre-tokens, and never split or merged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

END_OF_TEXT = "<|endoftext|>"

Span = tuple[int, int, int]
"""Span of a special token: first byte, byte after the last, index of the token (-1: a text ends here, no token)."""


def check_special_tokens(special_tokens: Iterable[str] | None) -> list[str]:
    """Return the special tokens as a list.

    Raises:
        TypeError: If `special_tokens` is a single string.
        ValueError: If a token is not a string, is empty, occurs twice or cannot be encoded as UTF-8.
    """
    if special_tokens is None:
        return []
    if isinstance(special_tokens, str):
        raise TypeError(
            f"special_tokens is the string {special_tokens!r}, expected a list of strings; write [{special_tokens!r}]"
        )
    tokens = list(special_tokens)
    for token in tokens:
        if not isinstance(token, str) or not token:
            raise ValueError(f"special token {token!r} is not a non-empty string; remove it")
        if tokens.count(token) > 1:
            raise ValueError(f"special token {token!r} is given {tokens.count(token)} times; give each once")
        try:
            token.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"special token {token!r} has a lone surrogate, which UTF-8 cannot encode; rename it"
            ) from None
    return tokens


class SpecialTokenFinder:
    """Finds special tokens in UTF-8, leftmost first and the longest at each start."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        encoded = [token.encode("utf-8") for token in special_tokens]
        self.tokens = encoded
        self.longest = max(map(len, encoded), default=0)
        self._index = {token: index for index, token in enumerate(encoded)}
        self._only = encoded[0] if len(encoded) == 1 else None
        self._by_length = sorted(encoded, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._by_length))) if encoded else None
        strings = sorted(special_tokens, key=lambda token: len(token.encode("utf-8")), reverse=True)
        self._text_pattern = re.compile(f"({'|'.join(map(re.escape, strings))})") if encoded else None

    def spans(self, data: bytes) -> list[Span]:
        """Return the spans of special tokens in `data`, in order and without overlaps."""
        if self._only is not None:
            return self._spans_of_one(data, self._only)
        if self._pattern is None:
            return []
        return [(*match.span(), self._index[match.group()]) for match in self._pattern.finditer(data)]

    def split(self, text: str) -> list[tuple[str, int]]:
        """Split a string into the texts between special tokens, each with the index of the next token (-1: none)."""
        if self._text_pattern is None:
            return [(text, -1)]
        parts = self._text_pattern.split(text)
        indices = [self._index[token.encode("utf-8")] for token in parts[1::2]]
        return list(zip(parts[::2], [*indices, -1], strict=True))

    def crosses(self, data: bytes | memoryview, cut: int) -> bool:
        """Return True if a special token in `data` straddles `cut`, even if it overlaps a token that `spans` finds."""
        start = max(0, cut - self.longest + 1)
        window = bytes(data[start : cut + self.longest - 1])
        for token in self._by_length:
            found = window.find(token)
            while found >= 0:
                if start + found < cut < start + found + len(token):
                    return True
                found = window.find(token, found + 1)
        return False

    @cached_property
    def find(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that calls a kernel to find the spans in read-only uint8 data: int64, shape (n, 3)."""
        import numpy as np

        from bpe.kernels.scanning.special_tokens import find_special_tokens

        offsets = np.zeros(len(self._by_length) + 1, dtype=np.int64)
        np.cumsum([len(token) for token in self._by_length], out=offsets[1:])
        tokens = np.frombuffer(b"".join(self._by_length), dtype=np.uint8)
        firsts = np.frombuffer(bytes(sorted({token[0] for token in self._by_length})), dtype=np.uint8)
        indices = np.array([self._index[token] for token in self._by_length], dtype=np.int64)

        def find(data: np.ndarray) -> np.ndarray:
            if not len(indices):
                return np.empty((0, 3), dtype=np.int64)
            spans = np.empty((len(data) >> 6, 3), dtype=np.int64)  # a first guess of the number of spans
            found = find_special_tokens(data, tokens, offsets, firsts, spans)
            if found > len(spans):
                spans = np.empty((found, 3), dtype=np.int64)
                find_special_tokens(data, tokens, offsets, firsts, spans)
            spans = spans[:found]
            spans[:, 2] = indices[spans[:, 2]]
            return spans

        return find

    @staticmethod
    def _spans_of_one(data: bytes, token: bytes) -> list[Span]:
        """Return the spans of one token; `bytes.find` is several times as fast as a regular expression."""
        spans: list[Span] = []
        start = data.find(token)
        while start >= 0:
            end = start + len(token)
            spans.append((start, end, 0))
            start = data.find(token, end)
        return spans
