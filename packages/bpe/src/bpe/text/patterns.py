"""Pre-tokenization patterns: published ones, which kernels implement, and any other, which `regex` runs."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING

from bpe.kernels.scanning.scanner import CL100K, DEEPSEEK, GPT2, O200K
from bpe.kernels.scanning.scanner import Scanner as Scanner

if TYPE_CHECKING:
    from collections.abc import Iterator

    import regex

GPT2_PATTERN: str = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's pattern: contractions; runs of letters, digits or other characters with one space before; white space."""

CL100K_PATTERN: str = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"""
    r"""\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
"""The pattern of tiktoken's cl100k_base (GPT-4), as tiktoken 0.14 writes it."""

LLAMA3_PATTERN: str = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"""
    r"""\s*[\r\n]+|\s+(?!\S)|\s+"""
)
"""The pattern of Llama 3's tokenizer.json: cl100k's, but white space at the end of a text is split at line breaks."""

QWEN_PATTERN: str = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
"""The pattern of the tokenizer.json of Qwen 2, 2.5 and 3: Llama 3's, with every digit by itself."""

O200K_PATTERN: str = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"""
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"""
    r"""\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
"""The pattern of tiktoken's o200k_base (GPT-4o) and o200k_harmony, and of the tokenizer.json of gpt-oss."""

QWEN35_PATTERN = QWEN_PATTERN.replace(r"\p{L}+|", r"[\p{L}\p{M}]+|").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}")
"""The pattern of Qwen 3.5: Qwen 3's, with combining marks among the letters."""

_O200K_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN_PATTERN = O200K_PATTERN.replace(_O200K_CONTRACTION, "").replace(r"\p{N}{1,3}", r"\p{N}")
"""The pattern of Mistral's Tekken: o200k's, without contractions and with every digit by itself."""

DIGITS_THEN_GPT2 = (r"\p{N}", GPT2_PATTERN)
"""The splits of StarCoder, SmolLM, Granite and Command-R: every digit, then GPT-2's pattern."""

DEEPSEEK_PATTERNS = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    r""" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)
"""The splits of DeepSeek V3 and R1, one after another."""

_SAME_AS_GPT2 = frozenset(
    {
        GPT2_PATTERN,
        r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
        r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    }
)
_SAME_AS_LLAMA3 = (
    LLAMA3_PATTERN,
    LLAMA3_PATTERN.replace(r"\s*[\r\n]+", r"\s*[\r\n]"),
    # tiktoken 0.5 to 0.7, minbpe and nanochat
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|"""
    r"""\s*[\r\n]|\s+(?!\S)|\s+""",
)


Pattern = str | tuple[str, ...]
"""A regular expression of a pre-token, or several: each splits further what the one before has left."""


def is_gpt2_pattern(pattern: Pattern) -> bool:
    """Return whether `pattern` is one of the published spellings of GPT-2's pattern."""
    return pattern in _SAME_AS_GPT2


def in_one_form(pattern: Pattern) -> Pattern:
    """Return a pattern in one form: several regular expressions as a tuple, a single one as a string.

    Raises:
        ValueError: If there is none, or one is not a string.
    """
    several = tuple(pattern) if isinstance(pattern, tuple | list) else (pattern,)
    if not several or not all(isinstance(one, str) for one in several):
        raise ValueError(
            f"pattern is {pattern!r}, expected a regular expression such as bpe.GPT2_PATTERN, or a tuple of several"
        )
    return several if len(several) > 1 else several[0]


def check_pattern(pattern: Pattern) -> Pattern:
    """Return a pattern in the form of `in_one_form`.

    Raises:
        ValueError: If there is none, or one is malformed; see `compile_pattern`.
    """
    pattern = in_one_form(pattern)
    for one in [pattern] if isinstance(pattern, str) else pattern:
        if not is_gpt2_pattern(one):
            compile_pattern(one)
    return pattern


def _with_digits(pattern: str, scanner: Scanner) -> Iterator[tuple[str, Scanner]]:
    """Yield a pattern with up to three digits in a pre-token, and the same one with one or two."""
    before, after = re.split(r"\{1,3\}\+?", pattern)
    for digits, spellings in ((1, [""]), (2, ["{1,2}", "{1,2}+"]), (3, ["{1,3}", "{1,3}+"])):
        for spelling in spellings:
            yield before + spelling + after, scanner._replace(most_digits=digits)


@lru_cache(maxsize=1)
def _scanners() -> dict[Pattern, Scanner]:
    """Return the scanner of each known pattern, and of each known sequence of them."""
    scanners: dict[Pattern, Scanner] = {}
    for pattern in _SAME_AS_GPT2:
        scanners[pattern] = Scanner(GPT2)
        scanners[r"\p{N}", pattern] = Scanner(GPT2, most_digits=1)
    scanners.update(_with_digits(CL100K_PATTERN, Scanner(CL100K, end_is_special=1)))
    for pattern in _SAME_AS_LLAMA3:
        scanners.update(_with_digits(pattern, Scanner(CL100K)))
    scanners[QWEN35_PATTERN] = Scanner(CL100K, most_digits=1, marks_are_letters=1)
    scanners.update(_with_digits(O200K_PATTERN, Scanner(O200K, contractions=1)))
    scanners.update(_with_digits(O200K_PATTERN.replace(_O200K_CONTRACTION, ""), Scanner(O200K)))
    # Published with the line breaks themselves, which mean the same.
    with_line_breaks = tuple(split.replace(r"\r\n", "\r\n") for split in DEEPSEEK_PATTERNS)
    scanners[DEEPSEEK_PATTERNS] = scanners[with_line_breaks] = Scanner(DEEPSEEK, most_digits=3)
    return scanners


def scanner_of(pattern: Pattern) -> Scanner | None:
    """Return the scanner with which the kernels implement a pattern, or None if only `regex` can run it.

    A tuple stands for several splits: each pattern splits the parts that the one before it made.
    """
    return _scanners().get(pattern[0] if isinstance(pattern, tuple) and len(pattern) == 1 else pattern)


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
