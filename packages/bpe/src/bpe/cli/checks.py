"""Checks of options that several commands have, before their work starts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bpe.formats import also_ordinary, write_pattern
from bpe.text import END_OF_TEXT, compile_pattern


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


def check_can_be_saved(pattern: str, special_tokens: Sequence[str]) -> None:
    """Refuse a pattern or special tokens that `save_pretrained` cannot write.

    Raises:
        ValueError: If there is such a one.
    """
    compile_pattern(pattern)
    write_pattern(pattern)
    for token in sorted(also_ordinary(special_tokens, ())):
        raise ValueError(f"special token {token!r} is how tokenizer.json writes another byte; rename it")
