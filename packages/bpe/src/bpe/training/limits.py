"""Limits of training: the size of the vocabulary, rare pairs, long tokens."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from bpe.arguments import whole_number
from bpe.errors import VocabularySizeWarning


class Limits(NamedTuple):
    """Pairs of tokens that may be merged."""

    min_frequency: int = 1
    """The least number of occurrences of a pair."""
    max_token_length: int | None = None
    """The largest number of bytes of a pair; None sets no limit."""

    @classmethod
    def checked(cls, min_frequency: int, max_token_length: int | None) -> Limits:
        """Validate the arguments of a training function.

        Raises:
            ValueError: If `min_frequency` is not an integer of at least 0, or `max_token_length` is neither None nor an
                integer of at least 1.
        """
        least = whole_number(min_frequency)
        if least is None or least < 0:
            raise ValueError(
                f"min_frequency is {min_frequency!r}, expected a whole number of at least 0; 1 merges every pair"
            )
        longest = None if max_token_length is None else whole_number(max_token_length)
        if max_token_length is not None and (longest is None or longest < 1):
            raise ValueError(
                f"max_token_length is {max_token_length!r}, expected a whole number of bytes of at least 1; "
                "None sets no limit"
            )
        return cls(max(least, 1), longest)

    def allow_size(self, size: int) -> bool:
        """Return whether a token may have this number of bytes."""
        return self.max_token_length is None or size <= self.max_token_length


NO_LIMITS = Limits()


def check_vocab_size(vocab_size: int, special_tokens: list[str]) -> int:
    """Return the vocabulary size as an int; refuse one that is too small for the bytes and the special tokens."""
    least = 256 + len(special_tokens)
    number = whole_number(vocab_size)
    if number is None or number < least:
        raise ValueError(
            f"vocab_size is {vocab_size!r}, expected a whole number of at least {least} "
            f"(256 bytes and {len(special_tokens)} special tokens)"
        )
    return number


def warn_of_size(wanted: int, reached: int, limits: Limits, stacklevel: int) -> None:
    """Warn if no pair was left to merge before the vocabulary had the wanted size; `stacklevel` 2 names the caller."""
    if reached >= wanted:
        return
    set_limits = [f"min_frequency {limits.min_frequency}"] if limits.min_frequency > 1 else []
    set_limits += [] if limits.max_token_length is None else [f"max_token_length {limits.max_token_length}"]
    within = f" within {' and '.join(set_limits)}" if set_limits else ""
    warnings.warn(
        f"vocab_size is {wanted:,}, but the vocabulary has only {reached:,} tokens, because no pair of tokens is left "
        f"to merge{within}; train on more text, or set vocab_size to {reached}",
        VocabularySizeWarning,
        stacklevel=stacklevel + 1,
    )
