"""Pre-tokenization patterns: GPT-2's and cl100k's, which kernels implement, and any other, which `regex` runs."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import regex

GPT2_PATTERN: str = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's pattern: contractions; runs of letters, digits or other characters with one space before; white space."""

_SAME_AS_GPT2 = frozenset(
    {
        GPT2_PATTERN,
        r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
        r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    }
)

CL100K_PATTERN: str = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"""
    r"""\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
"""The pattern of cl100k_base, as tiktoken writes it."""

LLAMA3_PATTERN: str = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"""
    r"""\s*[\r\n]+|\s+(?!\S)|\s+"""
)
"""The pattern of Llama 3, and of early cl100k_base: it splits white space at the end of a text differently."""


Pattern = str | tuple[str, ...]
"""A regular expression of a pre-token, or several: each splits further what the one before has left."""


def is_gpt2_pattern(pattern: Pattern) -> bool:
    """Return whether `pattern` is one of the published spellings of GPT-2's pattern."""
    return pattern in _SAME_AS_GPT2


def check_pattern(pattern: Pattern) -> Pattern:
    """Return a pattern in one form: several regular expressions as a tuple, a single one as a string.

    Raises:
        ValueError: If there is none, or one is malformed; see `compile_pattern`.
    """
    several = tuple(pattern) if isinstance(pattern, tuple | list) else (pattern,)
    if not several or not all(isinstance(one, str) for one in several):
        raise ValueError(
            f"pattern is {pattern!r}, expected a regular expression such as bpe.GPT2_PATTERN, or a tuple of several"
        )
    for one in several:
        if not is_gpt2_pattern(one):
            compile_pattern(one)
    return several if len(several) > 1 else several[0]


class Scanner(NamedTuple):
    """A pattern that the kernels implement."""

    most_digits: int
    """0 for GPT-2's pattern; for cl100k and its kind the largest number of digits in a pre-token."""
    end_is_special: int
    """1 if white space at the end of a text is always one pre-token, as in tiktoken's cl100k; else 0."""


def _scanners() -> dict[Pattern, Scanner]:
    """Return the scanner of each known pattern: GPT-2's, and cl100k's for up to one, two or three digits."""
    scanners: dict[Pattern, Scanner] = dict.fromkeys(_SAME_AS_GPT2, Scanner(0, 0))
    for pattern, end_is_special in ((CL100K_PATTERN, 1), (LLAMA3_PATTERN, 0)):
        before, after = re.split(r"\{1,3\}\+?", pattern)
        for digits, spellings in ((1, [""]), (2, ["{1,2}", "{1,2}+"]), (3, ["{1,3}", "{1,3}+"])):
            for spelling in spellings:
                scanners[before + spelling + after] = Scanner(digits, end_is_special)
    return scanners


_SCANNERS = _scanners()


def scanner_of(pattern: Pattern) -> Scanner | None:
    """Return the scanner with which the kernels implement a pattern, or None if only `regex` can run it."""
    return _SCANNERS.get(pattern)


@lru_cache(maxsize=32)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Compile a pre-tokenization pattern with `regex`.

    Set operations in character classes (`[a-z&&[^aeiou]]`, `[a-z--[aeiou]]`, `[a-e~~c-h]`, `[a[bc]]`) have the meaning
    that they have in tiktoken. `regex` itself knows them only in its version 1, whose case folding is switched off,
    because (?i:ß) would match "ss".

    Raises:
        ValueError: If the pattern is not a string, is empty, `regex` rejects it, or it combines set operations whose
            precedence differs between engines.
    """
    import regex

    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"pattern is {pattern!r}, expected a regular expression such as bpe.GPT2_PATTERN")
    try:
        has_operations = _has_set_operations(pattern)
        return regex.compile(f"(?V1)(?-f){pattern}" if has_operations else pattern)
    except regex.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression of the `regex` module: {error}") from error


_IN_CLASS = re.compile(r"\\[pPN]\{[^}]*\}|\\.|\[:\^?\w+:\]|&&|--|~~|\|\||\[\^?|\]|.", re.DOTALL)


def _has_set_operations(pattern: str) -> bool:
    """Return whether a character class of a pattern has a set operation or a class within.

    Raises:
        ValueError: If one class has two kinds of set operations, or one beside `||`.
    """
    found = False
    classes: list[set[str]] = []
    """Operations of each open class, the innermost last."""
    at_start = False  # a bracket that closes is a character at the start of a class
    for match in _IN_CLASS.finditer(pattern):
        part = match.group()
        if part in ("[", "[^"):
            found |= bool(classes)
            classes.append(set())
            at_start = True
            continue
        if classes and part == "]" and not at_start:
            classes.pop()
        elif classes and part in ("&&", "--", "~~", "||"):
            classes[-1].add(part)
            found |= part != "||"  # which is twice the same character in tiktoken, and in version 0 of regex
            if len(classes[-1]) > 1:
                raise ValueError(
                    f"pattern {pattern!r} has {' and '.join(sorted(classes[-1]))} in one character class, whose order "
                    "differs between engines; put one of them into a class of its own within"
                )
        at_start = False
    return found


def split_pretokens(pattern: Pattern, text: str) -> Iterator[str]:
    """Yield the pre-tokens of `text` in order; text that the pattern does not match forms pre-tokens of its own.

    Each of several patterns splits further what the one before has left. Whatever the pattern, the pre-tokens joined
    together are `text`.
    """
    if isinstance(pattern, tuple):
        pieces: Iterator[str] = iter((text,))
        for one in pattern:
            pieces = chain.from_iterable(map(partial(split_pretokens, one), pieces))
        yield from pieces
        return
    compiled = compile_pattern(pattern)
    if is_gpt2_pattern(pattern):
        yield from compiled.findall(text)  # GPT-2's pattern matches every character
        return
    done = 0
    for match in compiled.finditer(text):
        start, end = match.span()
        if start > done:
            yield text[done:start]
        if end > start:
            yield text[start:end]
        done = max(done, end)
    if done < len(text):
        yield text[done:]
