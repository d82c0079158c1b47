"""Checks of what a tokenizer is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def checked_vocab(vocab: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the vocabulary as a dictionary of int to bytes.

    Raises:
        TypeError: If it is not a mapping.
        ValueError: If an id is not a whole number from 0 to 2**31 - 1, or a token not non-empty bytes.
    """
    if not isinstance(vocab, Mapping):
        raise TypeError(f"vocab is a {type(vocab).__name__}, expected a mapping of id (int) to token (bytes)")
    checked = {}
    for id_, token in vocab.items():
        if not isinstance(id_, int) or not 0 <= id_ < 2**31:
            raise ValueError(
                f"vocab has the id {id_!r}, expected whole numbers from 0 to 2**31 - 1; is it turned round?"
            )
        if not isinstance(token, bytes) or not token:
            raise ValueError(f"vocab has {token!r} for id {id_}, expected non-empty bytes; encode strings as UTF-8")
        checked[id_] = token
    return checked


def checked_merge(merge: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return a merge as a pair of bytes.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(merge, Sequence) and len(merge) == 2 and all(isinstance(part, bytes) and part for part in merge):
        return (merge[0], merge[1])
    raise ValueError(f"merge {merge!r} is not a pair of non-empty bytes; write (left, right)")


def checked_normalization(normalization: str | None) -> str | None:
    """Return the name of a normal form.

    Raises:
        ValueError: If it is neither None nor "NFC".
    """
    if normalization not in (None, "NFC"):
        raise ValueError(f"normalization is {normalization!r}, expected None or 'NFC'; normalise the text beforehand")
    return normalization
