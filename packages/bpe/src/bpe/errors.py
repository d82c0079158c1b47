"""The errors and warnings of this package that are not plain built-ins."""

from __future__ import annotations


class UnknownTokenError(ValueError, KeyError):
    """A token or token id that the vocabulary does not have; also a KeyError, as a dictionary would raise."""

    # KeyError would show the message in quotes.
    __str__ = Exception.__str__


class InvalidUTF8Warning(UserWarning):
    """A file held malformed UTF-8, which was replaced by U+FFFD; emitted once per file with the number of places."""
