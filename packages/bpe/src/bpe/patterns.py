"""Pre-tokenisation patterns: GPT-2's, which the kernels know, and any other one, which `regex` runs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

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


def is_gpt2_pattern(pattern: str) -> bool:
    """Say whether `pattern` is one of the published spellings of GPT-2's pattern."""
    return pattern in _SAME_AS_GPT2


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
