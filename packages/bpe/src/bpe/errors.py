"""Errors and warnings of this package beyond the built-in ones."""

from __future__ import annotations


class UnknownTokenError(ValueError, KeyError):
    """A token or token id is not in the vocabulary; also a KeyError, as a dictionary would raise."""

    # KeyError would show the message in quotes.
    __str__ = Exception.__str__


class InvalidUTF8Warning(UserWarning):
    """Malformed UTF-8 was replaced by U+FFFD; issued once per file or text with the number of replacements."""


class VocabularySizeWarning(UserWarning):
    """A trained vocabulary is smaller than `vocab_size`, because no pair of tokens was left to merge."""
