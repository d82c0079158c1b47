"""The added tokens of a tokenizer.json, special or not, which are found before the text is split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bpe.formats.json_files import list_of, object_of, unsupported
from bpe.text import AddedToken, check_added_tokens
from bpe.vocabulary import TokenizerSpec

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_added_tokens(source: str, value: object, vocab: Mapping[str, int]) -> tuple[list[AddedToken], dict[str, int]]:
    """Return the added tokens, and the id of each.

    Raises:
        ValueError: If a token is malformed, or has an id that differs from the one the `tokenizers` library assigns (it
            numbers tokens that `vocab` lacks itself).
    """
    tokens: list[AddedToken] = []
    ids: dict[str, int] = {}
    for entry in list_of(source, "added_tokens", value or []):
        given = object_of(source, "added_tokens", entry)
        content, id_ = given.get("content"), given.get("id")
        if not isinstance(content, str) or not content or not isinstance(id_, int) or content in ids:
            raise unsupported(source, "added_tokens", given, "a content and an id, each content once")
        tokens.append(_flagged(given))
        ids[content] = id_
    _check_ids(source, ids, vocab)
    return tokens, ids


def _flagged(entry: Mapping[str, Any]) -> AddedToken:
    """Return the token of an entry."""
    return AddedToken(entry["content"], **{name: bool(entry.get(name)) for name in _FLAGS})


def write_added_tokens(spec: TokenizerSpec, earlier: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of the added tokens, as they were in an earlier file where that means the same."""
    before = {entry["content"]: entry for entry in earlier}
    written = [{"id": spec.found_ids[token.content], **_entry(token)} for token in _in_order(spec)]
    entries = [_earlier_or_new(before.get(entry["content"]), entry) for entry in written]
    special, added = check_added_tokens(map(_flagged, entries), (), normalizes=spec.normalization is not None)
    same = (special, added) == (spec.special_tokens, spec.added_tokens)
    return entries if same else written


def _entry(token: AddedToken) -> dict[str, Any]:
    """Return the entry of a token without its id."""
    return {"content": token.content, **{name: getattr(token, name) for name in _FLAGS}}


def _earlier_or_new(earlier: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Return an earlier entry if it differs from a new one at most in `normalized`, which need not matter."""
    if earlier is None or earlier["id"] != new["id"]:
        return new
    return earlier if _flagged({**earlier, "normalized": new["normalized"]}) == _flagged(new) else new


def _in_order(spec: TokenizerSpec) -> list[AddedToken]:
    """Return the added tokens in order of ids, if that is also the order of each kind in the definition."""
    by_id = sorted(spec.found_tokens, key=lambda token: spec.found_ids[token.content])
    kinds = [token for token in by_id if token.special] + [token for token in by_id if not token.special]
    return by_id if kinds == spec.found_tokens else spec.found_tokens


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
