"""Pre-tokenization patterns that the kernels implement, as numbers."""

from __future__ import annotations

from typing import NamedTuple

GPT2, CL100K, O200K, DEEPSEEK = 0, 1, 2, 3


class Scanner(NamedTuple):
    """A pattern that the kernels implement."""

    kind: int
    """The pattern that this one resembles: GPT2, CL100K, O200K or DEEPSEEK."""
    most_digits: int = 0
    """The largest number of digits in a pre-token; 0 means any number, one space before them included (GPT-2)."""
    end_is_special: int = 0
    """1 if white space at the end of a text is always one pre-token, as in tiktoken's cl100k; else 0."""
    marks_are_letters: int = 0
    """1 if combining marks count as letters, as in Qwen 3.5; else 0. Of the kind CL100K only."""
    contractions: int = 0
    """1 if a contraction belongs to the word before it, as in o200k; else 0. Of the kind O200K only."""
