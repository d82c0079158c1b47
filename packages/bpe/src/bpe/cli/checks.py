"""Checks of options that several commands have, before their work starts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bpe.formats import also_ordinary, write_pattern
from bpe.text import END_OF_TEXT, GPT2_PATTERN, Pattern, check_pattern


def special_tokens(options: argparse.Namespace, default: Sequence[str] = (END_OF_TEXT,)) -> list[str]:
    """Return the special tokens of the options.

    Raises:
        ValueError: If the options contradict each other.
    """
    if options.no_special_tokens:
        if options.special_token:
            raise ValueError("--special-token and --no-special-tokens contradict each other; omit one of them")
        return []
    return options.special_token or list(default)


def pattern(options: argparse.Namespace) -> Pattern:
    """Return the pattern of the options, or several."""
    return tuple(options.pattern or (GPT2_PATTERN,))


def check_can_be_saved(pattern: Pattern, special_tokens: Sequence[str]) -> None:
    """Refuse a pattern or special tokens that `save_pretrained` cannot write.

    Raises:
        ValueError: If there is such a one.
    """
    write_pattern(check_pattern(pattern))
    for token in sorted(also_ordinary(special_tokens, ())):
        raise ValueError(f"special token {token!r} is how tokenizer.json writes another byte; rename it")
