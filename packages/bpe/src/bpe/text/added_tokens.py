"""Added tokens: found before the text is split, like special tokens, but in the many ways of the `tokenizers` library.

The library searches twice: first for tokens that are not `normalized`; then, in each text that they leave, normalized
by itself, for those that are. Each search is leftmost first and longest at each start.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

from bpe.text.special_tokens import SpecialTokenFinder, check_special_tokens

_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" + (
    "\u2028\u2029\u202f\u205f\u3000"
)
_LEADING_WHITE_SPACE = re.compile(b"(?:" + b"|".join(re.escape(space.encode()) for space in _WHITE_SPACE) + b")*")
_LONGEST_CHARACTER = 4


class AddedToken(NamedTuple):
    """A token that is found before the text is split into pre-tokens, and how it is found."""

    content: str
    special: bool = False
    """True if it counts as a special token."""
    lstrip: bool = False
    """True if it takes in the white space before it."""
    rstrip: bool = False
    """True if it takes in the white space after it."""
    single_word: bool = False
    """True if it is found only where no letter, digit, mark or underscore precedes or follows it."""
    normalized: bool = False
    """True if it is searched for in normalized text, and after the tokens that are not."""

    @property
    def looks_around(self) -> bool:
        """True if the text around it matters."""
        return self.lstrip or self.rstrip or self.single_word


def check_added_tokens(
    added_tokens: Iterable[AddedToken], special_tokens: Sequence[str], *, normalizes: bool
) -> tuple[list[str], list[AddedToken]]:
    """Return all special tokens, and those added tokens that are not plain special tokens, in one form only.

    A token that is `normalized` is found like one that is not if nothing normalizes the text, no token looks around,
    and no token of one kind overlaps a token of the other. It then counts as not normalized.

    Raises:
        TypeError: If an added token is anything else, such as a string.
        ValueError: If a content is malformed or occurs twice, or a special token is also an added token that is not.
    """
    tokens = list(added_tokens)
    for token in tokens:
        if not isinstance(token, AddedToken):
            raise TypeError(f"added_tokens has {token!r}, expected bpe.AddedToken; write bpe.AddedToken({token!r})")
    contents = check_special_tokens([token.content for token in tokens])
    known = set(special_tokens)
    for token in tokens:
        if token.content in known and not token.special:
            raise ValueError(f"{token!r} is also a special token; make it special, or leave it out of one of the two")
    special = [*special_tokens, *(token.content for token in tokens if token.special and token.content not in known)]
    late = [token.content for token in tokens if token.normalized]
    if late and not (normalizes or any(token.looks_around for token in tokens)):
        early = list(dict.fromkeys([*special, *contents]).keys() - set(late))
        if not _overlap(early, late):
            tokens = [token._replace(normalized=False) for token in tokens]
    place = {content: number for number, content in enumerate(special)}
    tokens.sort(key=lambda token: place.get(token.content, len(place)))  # stable: those that are not special come last
    return special, [token for token in tokens if token != AddedToken(token.content, special=True)]


def _overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether a token of one kind can overlap a token of the other kind in a text."""
    for left, right in permutations((some, others)):
        finder = SpecialTokenFinder(right)
        begins = {token[:size] for token in right for size in range(1, len(token) + 1)}
        for token in left:
            if any(token[start:] in begins for start in range(len(token))) or finder.spans(token.encode("utf-8")):
                return True
    return False


class AddedTokenSplitter:
    """Splits a text at added tokens, and makes the text between them ready to be split into pre-tokens."""

    def __init__(
        self, tokens: Sequence[AddedToken], *, only: Collection[str], normalization: str | None, prefix_space: bool
    ) -> None:
        """Create a splitter that finds `only` some of the tokens; parts have the indices of all tokens."""
        self._normalization = normalization
        self._prefix_space = prefix_space
        found = [(index, token) for index, token in enumerate(tokens) if token.content in only]
        plain = {token.content: index for index, token in found if not token.normalized}
        late = {token.content: index for index, token in found if token.normalized}
        self._first = _Search(tokens, plain)
        normalized: dict[str, int] = {}
        for content, index in late.items():
            normalized.setdefault(self._normal_form(content), index)
        self._second = _Search(tokens, normalized)

    def split(self, data: bytes, *, continues: bool = False) -> list[tuple[str, int]]:
        """Split valid UTF-8 into the texts between tokens, each with the index of the token after it (-1: none).

        The texts are normalized and, if the tokenizer demands it, begin with a space. `continues` says that the text
        before `data` belongs to the first of them.
        """
        parts: list[tuple[str, int]] = []
        for text, following in self._first.split(data):
            normal = self._normal_form(text)
            if self._second.is_empty:
                parts.append((normal, following))
                continue
            *before, (last, _) = self._second.split(normal.encode("utf-8"))
            parts += [*before, (last, following)]
        if self._prefix_space:
            parts = [
                (f" {text}" if text and text[0] != " " and not (continues and number == 0) else text, following)
                for number, (text, following) in enumerate(parts)
            ]
        return parts

    def _normal_form(self, text: str) -> str:
        """Return a text in the Unicode normal form of this tokenizer."""
        return text if self._normalization is None else unicodedata.normalize("NFC", text)


class _Search:
    """A search for some of the added tokens."""

    def __init__(self, tokens: Sequence[AddedToken], indices: Mapping[str, int]) -> None:
        self._finder = SpecialTokenFinder(list(indices))
        self._found = [(index, tokens[index]) for index in indices.values()]
        self.is_empty = not indices

    def split(self, data: bytes) -> list[tuple[str, int]]:
        """Split valid UTF-8 into the texts between tokens, each with the index of the token after it (-1: none)."""
        parts: list[tuple[str, int]] = []
        done = 0
        for start, end, position in self._finder.spans(data):
            index, token = self._found[position]
            if token.single_word and (_ends_with_word(data, start) or _begins_with_word(data, end)):
                continue
            text = data[done:start].decode("utf-8")  # empty after a token that has taken in white space from here on
            if token.lstrip:
                text = text.rstrip(_WHITE_SPACE)
            if token.rstrip:
                end = _end_of_white_space(data, end)
            parts.append((text, index))
            done = end
        parts.append((data[done:].decode("utf-8"), -1))
        return parts


def _end_of_white_space(data: bytes, start: int) -> int:
    """Return the end of the white space that begins at `start`."""
    found = _LEADING_WHITE_SPACE.match(data, start)
    return start if found is None else found.end()


def _ends_with_word(data: bytes, end: int) -> bool:
    """Return whether the character before `end` belongs to a word."""
    return _is_word(data[max(0, end - _LONGEST_CHARACTER) : end].decode("utf-8", "ignore")[-1:])


def _begins_with_word(data: bytes, start: int) -> bool:
    """Return whether the character at `start` belongs to a word."""
    return _is_word(data[start : start + _LONGEST_CHARACTER].decode("utf-8", "ignore")[:1])


def _is_word(character: str) -> bool:
    r"""Return whether a character is one of \w, which is the same for `regex` and in Rust, but not for `re`."""
    import regex

    return regex.match(r"\w", character) is not None
