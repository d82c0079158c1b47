"""Special tokens: strings that are found before anything else and never split or merged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

END_OF_TEXT = "<|endoftext|>"

Span = tuple[int, int, int]
"""Where a special token lies: first byte, byte after the last, index of the token (-1: a bare document boundary)."""


def check_special_tokens(special_tokens: Iterable[str] | None) -> list[str]:
    """Return the special tokens as a list.

    Raises:
        TypeError: If they are one string.
        ValueError: If one is not a string, is empty, comes twice or cannot be written in UTF-8.
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
            raise ValueError(f"special token {token!r} is not a non-empty string; remove it or give it a name")
        if tokens.count(token) > 1:
            raise ValueError(f"special token {token!r} is given {tokens.count(token)} times; give each once")
        try:
            token.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"special token {token!r} has a lone surrogate, which UTF-8 cannot hold; rename it"
            ) from None
    return tokens


class SpecialTokenFinder:
    """Finds special tokens in UTF-8, leftmost first and, where several start, the longest."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        encoded = [token.encode("utf-8") for token in special_tokens]
        self.tokens = encoded
        self.longest = max(map(len, encoded), default=0)
        self._index = {token: index for index, token in enumerate(encoded)}
        self._only = encoded[0] if len(encoded) == 1 else None
        self._by_length = sorted(encoded, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._by_length))) if encoded else None

    def spans(self, data: bytes) -> list[Span]:
        """Return where special tokens lie in `data`, in order and without overlaps."""
        if self._only is not None:
            return self._spans_of_one(data, self._only)
        if self._pattern is None:
            return []
        return [(*match.span(), self._index[match.group()]) for match in self._pattern.finditer(data)]

    def stretches_over(self, data: bytes | memoryview, cut: int) -> bool:
        """Say whether a special token lies on both sides of `cut` anywhere in `data`, chosen or not."""
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
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The tokens for the kernels, the longest first: bytes, bounds, different first bytes, and their indices."""
        import numpy as np

        offsets = np.zeros(len(self._by_length) + 1, dtype=np.int64)
        np.cumsum([len(token) for token in self._by_length], out=offsets[1:])
        firsts = bytes(sorted({token[0] for token in self._by_length}))
        indices = np.array([self._index[token] for token in self._by_length], dtype=np.int64)
        return (
            np.frombuffer(b"".join(self._by_length), dtype=np.uint8),
            offsets,
            np.frombuffer(firsts, dtype=np.uint8),
            indices,
        )

    @staticmethod
    def _spans_of_one(data: bytes, token: bytes) -> list[Span]:
        """Return the spans of a single token; `bytes.find` is several times as fast as a regular expression."""
        spans: list[Span] = []
        start = data.find(token)
        while start >= 0:
            end = start + len(token)
            spans.append((start, end, 0))
            start = data.find(token, end)
        return spans
