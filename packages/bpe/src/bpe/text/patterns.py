"""Pre-tokenisation patterns: those of GPT-2 and cl100k, which the kernels know, and any other, which `regex` runs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import regex

GPT2_PATTERN: str = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's pattern: contractions; runs of letters, digits or other signs with one space before; white space."""

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
"""The pattern of Llama 3, and of cl100k_base at first: white space at the end of a text is split differently."""


def is_gpt2_pattern(pattern: str) -> bool:
    """Say whether `pattern` is one of the published spellings of GPT-2's pattern."""
    return pattern in _SAME_AS_GPT2


class Scanner(NamedTuple):
    """A pattern that the kernels know."""

    most_digits: int
    """0 for GPT-2's pattern; for patterns like cl100k's the most digits that go together."""
    end_is_special: int
    """1 if white space at the end of a text is one piece whatever is in it, as in tiktoken's cl100k."""


def _scanners() -> dict[str, Scanner]:
    """Return the scanner of each pattern that has one: GPT-2's, and cl100k's for one, two or three digits together."""
    scanners = dict.fromkeys(_SAME_AS_GPT2, Scanner(0, 0))
    for pattern, end_is_special in ((CL100K_PATTERN, 1), (LLAMA3_PATTERN, 0)):
        before, after = re.split(r"\{1,3\}\+?", pattern)
        for digits, spellings in ((1, [""]), (2, ["{1,2}", "{1,2}+"]), (3, ["{1,3}", "{1,3}+"])):
            for spelling in spellings:
                scanners[before + spelling + after] = Scanner(digits, end_is_special)
    return scanners


_SCANNERS = _scanners()


def scanner_of(pattern: str) -> Scanner | None:
    """Return how the kernels find the pre-tokens of a pattern, or None if only `regex` can."""
    return _SCANNERS.get(pattern)


@lru_cache(maxsize=32)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Compile a pre-tokenisation pattern with `regex`.

    Raises:
        ValueError: If it is not a string, is empty, or `regex` does not accept it.
    """
    import regex

    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"pattern is {pattern!r}, expected a regular expression such as bpe.GPT2_PATTERN")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression of the `regex` module: {error}") from error


def split_pieces(pattern: str, text: str) -> Iterator[str]:
    """Yield the pre-tokens of `text`, in order; stretches the pattern leaves out are pieces of their own.

    Joined together they are `text` again, whatever the pattern.
    """
    compiled = compile_pattern(pattern)
    if is_gpt2_pattern(pattern):
        yield from compiled.findall(text)  # it matches every character, so nothing can be left out
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
