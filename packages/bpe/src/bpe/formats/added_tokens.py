"""The added tokens of a tokenizer.json, special or not, which are found before the text is split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from bpe.formats.json_files import list_of, object_of, refuse, unsupported

_UNSUPPORTED = ("single_word", "lstrip", "rstrip")


def read_added_tokens(source: str, value: object, vocab: Mapping[str, int], *, normalizes: bool) -> dict[str, int]:
    """Return the id of each added token.

    Raises:
        ValueError: If a token is malformed, needs a way of matching that is not supported, or has an id that differs
            from the one the `tokenizers` library assigns (it numbers tokens that `vocab` lacks itself).
    """
    ids: dict[str, int] = {}
    in_normalized = []
    for entry in list_of(source, "added_tokens", value or []):
        token = object_of(source, "added_tokens", entry)
        content, id_ = token.get("content"), token.get("id")
        if not isinstance(content, str) or not content or not isinstance(id_, int) or content in ids:
            raise unsupported(source, "added_tokens", token, "a content and an id, each content once")
        for name in _UNSUPPORTED:
            refuse(source, f"{name} of the added token {content!r}", token.get(name))
        if token.get("normalized"):
            refuse(source, f"a normalizer, and normalized of the added token {content!r}", normalizes)
            in_normalized.append(content)
        ids[content] = id_
    _check_ids(source, ids, vocab)
    # The library searches for one kind in the text that the other kind leaves.
    _check_apart(source, in_normalized, [content for content in ids if content not in set(in_normalized)])
    return ids


def _check_ids(source: str, ids: Mapping[str, int], vocab: Mapping[str, int]) -> None:
    """Check that added tokens have the ids that the vocabulary or the library gives them."""
    following = len(vocab)
    for content, id_ in ids.items():
        expected = vocab.get(content, following)
        if id_ != expected:
            raise ValueError(
                f"{source} has id {id_} for the added token {content!r}, expected {expected}, which the library "
                "tokenizers assigns; correct the id, or put the token into model.vocab"
            )
        following += content not in vocab


def _check_apart(source: str, first: Sequence[str], second: Sequence[str]) -> None:
    """Refuse two kinds of tokens that can overlap in a text, because the order of the search would matter."""
    for one in first:
        for other in second:
            if any(_overlaps(left, right) for left, right in permutations((one, other))):
                raise unsupported(
                    source, f"normalized of the added token {one!r}", True, f"false as for {other!r}, which overlaps it"
                )


def _overlaps(left: str, right: str) -> bool:
    """Return whether `right` can begin inside `left`."""
    return right in left or any(left.endswith(right[:size]) for size in range(1, len(right)))
