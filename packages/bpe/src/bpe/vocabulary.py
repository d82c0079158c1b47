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
    # The first test is a fast way through for nearly all of tens of thousands of merges.
    if type(merge) is tuple and len(merge) == 2 and type(merge[0]) is type(merge[1]) is bytes and all(merge):
        return merge
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


def merge_ids(merges: list[tuple[bytes, bytes]], ids: Mapping[bytes, int]) -> tuple[list[int], list[int], list[int]]:
    """Return the ids of the left parts, the right parts and the products of merges.

    Raises:
        ValueError: If one of them is not in the vocabulary.
    """
    try:
        lefts, rights = [ids[left] for left, _ in merges], [ids[right] for _, right in merges]
        return lefts, rights, [ids[left + right] for left, right in merges]
    except KeyError as error:
        missing = error.args[0]
        merge = next(merge for merge in merges if missing in (*merge, merge[0] + merge[1]))
        raise ValueError(f"merge {merge!r} needs token {missing!r}, which is not in the vocabulary; add it") from None
