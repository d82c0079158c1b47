"""Special tokens: strings that are found before the text is split into pre-tokens, and never split or merged."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from bpe.kernels.scanning.scanner import Scanner

END_OF_TEXT = "<|endoftext|>"

Span = tuple[int, int, int]
"""Span of a special token: first byte, byte after the last, index of the token (-1: a text ends here, no token)."""


def check_special_tokens(special_tokens: Iterable[str] | None) -> list[str]:
    """Return the special tokens as a list.

    Raises:
        TypeError: If `special_tokens` is a single string, a set, which has no order for the ids, or a mapping to ids.
        ValueError: If a token is not a string, is empty, occurs twice or cannot be encoded as UTF-8.
    """
    if special_tokens is None:
        return []
    if isinstance(special_tokens, str):
        raise TypeError(
            f"special_tokens is the string {special_tokens!r}, expected a list of strings; write [{special_tokens!r}]"
        )
    if isinstance(special_tokens, set | frozenset):
        raise TypeError(
            "special_tokens is a set, whose order changes from process to process and with it the ids; "
            "expected a list, such as sorted(special_tokens)"
        )
    if isinstance(special_tokens, Mapping):
        raise TypeError(
            "special_tokens is a mapping, but ids are assigned here; expected a list. "
            "Tokenizer(…) and Tokenizer.from_tiktoken(…) accept special tokens with their ids"
        )
    tokens, seen = list(special_tokens), set()
    for token in tokens:
        if not isinstance(token, str) or not token:
            raise ValueError(f"special token {token!r} is not a non-empty string; remove it")
        if token in seen:
            raise ValueError(f"special token {token!r} is given {tokens.count(token)} times; give each once")
        seen.add(token)
        try:
            token.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"special token {token!r} has a lone surrogate, which UTF-8 cannot encode; rename it"
            ) from None
    return tokens


class SpecialTokenFinder:
    """Finds special tokens in UTF-8, leftmost first and the longest at each start.

    The tokens are sorted. Tokens that are prefixes of a text come before it in lexicographic order, and so does the
    last token that does not come after it. The longest prefix is that token, or else the longest token that begins it,
    and so on. The time per position thus depends on the logarithm of the number of tokens.

    With `only`, it finds no other tokens than those; spans have the indices of all tokens nevertheless.
    """

    def __init__(self, special_tokens: Sequence[str], only: Collection[str] | None = None) -> None:
        self.tokens = [token.encode("utf-8") for token in special_tokens]
        found = [index for index, token in enumerate(special_tokens) if only is None or token in only]
        self._indices = sorted(found, key=self.tokens.__getitem__)
        self._sorted = [self.tokens[index] for index in self._indices]
        self.longest = max(map(len, self._sorted), default=0)
        self._parents = _longest_prefixes(self._sorted)
        self._firsts = bytes(sorted({token[0] for token in self._sorted}))
        self._first = re.compile(b"[" + re.escape(self._firsts) + b"]") if self._sorted else None

    def spans(self, data: bytes) -> list[Span]:
        """Return the spans of special tokens in `data`, in order and without overlaps."""
        if len(self._sorted) == 1:
            return self._spans_of_one(data, self._sorted[0], self._indices[0])
        spans, free = [], 0
        for start in self._starts(data, len(data)):
            if start >= free and (position := self._longest_at(data, start)) >= 0:
                free = start + len(self._sorted[position])
                spans.append((start, free, self._indices[position]))
        return spans

    def split(self, text: str) -> list[tuple[str, int]]:
        """Split a string into the texts between special tokens, each with the index of the next token (-1: none)."""
        data = text.encode("utf-8", "surrogatepass")
        spans = self.spans(data)
        if not spans:
            return [(text, -1)]
        begins, ends = [0, *(span[1] for span in spans)], [*(span[0] for span in spans), len(data)]
        texts = [data[begin:end].decode("utf-8", "surrogatepass") for begin, end in zip(begins, ends, strict=True)]
        return list(zip(texts, [*(span[2] for span in spans), -1], strict=True))

    def straddling(self, data: bytes | memoryview, cut: int) -> int | None:
        """Return the start of a special token in `data` that straddles `cut`, or None.

        The token may overlap another one that `spans` finds.
        """
        begin = max(0, cut - self.longest + 1)
        window = bytes(data[begin : cut + self.longest - 1])
        for start in self._starts(window, cut - begin):
            position = self._longest_at(window, start)
            if position >= 0 and begin + start + len(self._sorted[position]) > cut:
                return begin + start
        return None

    def last_cut(self, data: np.ndarray, floor: int, end: int, scanner: Scanner) -> int:
        """Return the last cut in data[floor + 1 : end + 1] (uint8) that no special token straddles, or -1."""
        from bpe.kernels.scanning.special_tokens import last_cut_between_tokens
        from bpe.kernels.scanning.unicode_classes import class_table

        return int(last_cut_between_tokens(data, floor, end, scanner, class_table(), self._arrays))

    @cached_property
    def find(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that calls a kernel to find the spans in read-only uint8 data: int64, shape (n, 3)."""
        import numpy as np

        from bpe.kernels.scanning.special_tokens import find_special_tokens

        arrays, indices = self._arrays, np.array(self._indices, dtype=np.int64)

        def find(data: np.ndarray) -> np.ndarray:
            if not len(indices):
                return np.empty((0, 3), dtype=np.int64)
            spans = np.empty((len(data) >> 6, 3), dtype=np.int64)  # a first guess of the number of spans
            found = find_special_tokens(data, spans, arrays)
            if found > len(spans):
                spans = np.empty((found, 3), dtype=np.int64)
                find_special_tokens(data, spans, arrays)
            spans = spans[:found]
            spans[:, 2] = indices[spans[:, 2]]
            return spans

        return find

    @cached_property
    def _arrays(self) -> Any:
        import numpy as np

        from bpe.kernels.machine.compiling import structure
        from bpe.kernels.scanning.special_tokens import TokenArrays

        offsets = np.zeros(len(self._sorted) + 1, dtype=np.int64)
        np.cumsum([len(token) for token in self._sorted], out=offsets[1:])
        arrays = TokenArrays(
            np.frombuffer(b"".join(self._sorted), dtype=np.uint8),
            offsets,
            np.array(self._parents, dtype=np.int64),
            np.frombuffer(self._firsts, dtype=np.uint8),
            self.longest,
        )
        return structure(arrays)

    def _starts(self, data: bytes, end: int) -> Iterator[int]:
        """Yield the positions before `end` at which a token may begin."""
        return iter(()) if self._first is None else (match.start() for match in self._first.finditer(data, 0, end))

    def _longest_at(self, data: bytes, start: int) -> int:
        """Return the position, among the sorted tokens, of the longest token that begins at `start`, or -1."""
        following = data[start : start + self.longest]
        position = bisect_right(self._sorted, following) - 1
        if position < 0 or following.startswith(self._sorted[position]):
            return position
        shared = _shared_size(following, self._sorted[position])
        while position >= 0 and len(self._sorted[position]) > shared:
            position = self._parents[position]
        return position

    @staticmethod
    def _spans_of_one(data: bytes, token: bytes, index: int) -> list[Span]:
        """Return the spans of one token; `bytes.find` is several times as fast as a regular expression."""
        spans: list[Span] = []
        start = data.find(token)
        while start >= 0:
            end = start + len(token)
            spans.append((start, end, index))
            start = data.find(token, end)
        return spans


def _shared_size(left: bytes, right: bytes) -> int:
    """Return how many bytes two byte strings share at their beginning."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) >> 1
        if left.startswith(right[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _longest_prefixes(tokens: Sequence[bytes]) -> list[int]:
    """Return, for each of the sorted tokens, the position of the longest other token that it begins with, or -1."""
    parents: list[int] = []
    prefixes: list[int] = []
    """Tokens that begin with each other, of which the present token begins with all."""
    for position, token in enumerate(tokens):
        while prefixes and not token.startswith(tokens[prefixes[-1]]):
            prefixes.pop()
        parents.append(prefixes[-1] if prefixes else -1)
        prefixes.append(position)
    return parents
