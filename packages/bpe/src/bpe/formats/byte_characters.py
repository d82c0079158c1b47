"""Tokens in the written form of GPT-2's files and tokenizer.json: a printable character for every byte."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from bpe.text import from_characters, is_byte_level, to_characters
from bpe.vocabulary import Merge, TokenizerSpec


def also_ordinary(special_tokens: Iterable[str], merges: Iterable[Merge]) -> set[str]:
    """Return the special tokens that are also the written form of another token: of a byte, or of a token in a merge.

    An ordinary token of the same text does not count, because both have the same bytes.
    """
    written = {
        token: from_characters(token) for token in special_tokens if not token.isascii() and is_byte_level(token)
    }
    merged = {part for left, right in merges for part in (left, right, left + right)} if written else set()
    return {token for token, data in written.items() if len(data) == 1 or data in merged}


def decode_vocab(vocab: Mapping[str, int], special_tokens: Iterable[str], source: str) -> dict[int, bytes]:
    """Return the vocabulary by id from a vocabulary by written form; the written form of a special token is its text.

    Raises:
        ValueError: If an id is not an integer or occurs twice, or a token is not a written form.
    """
    special = set(special_tokens)
    by_id: dict[int, bytes] = {}
    for text, id_ in vocab.items():
        if type(id_) is not int or id_ in by_id:
            raise ValueError(f"{source} has the id {id_!r} for {text!r}, expected a whole number of its own; check it")
        if text in special:
            by_id[id_] = text.encode("utf-8")
            continue
        try:
            by_id[id_] = from_characters(text)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
    return by_id


def last_of_each(merges: Sequence[Merge]) -> list[Merge]:
    """Keep the last of equal merges, which is the one that counts for other readers of these files."""
    return list(dict.fromkeys(reversed(merges)))[::-1]


def encode_merges(spec: TokenizerSpec) -> list[tuple[str, str]]:
    """Return the written form of the merges; of equal merges the first, which is the one that counts here."""
    return [(to_characters(left), to_characters(right)) for left, right in dict.fromkeys(spec.merges)]


def encode_vocab(spec: TokenizerSpec, without: Collection[str] = ()) -> dict[str, int]:
    """Return the vocabulary by written form, in order of ids, without some of the added tokens.

    Raises:
        ValueError: If two tokens have the same written form, or a merge needs the bytes of a special token, whose
            written form is its text; the format cannot hold either.
    """
    special = {id_: token for token, id_ in spec.found_ids.items()}
    vocab: dict[str, int] = {}
    for id_, token in sorted(spec.vocab.items()):
        text = special.get(id_) or to_characters(token)
        if id_ in special and text in without:
            continue
        if text in vocab:
            raise ValueError(
                f"ids {vocab[text]} and {id_} are both written {text!r}, which the format cannot hold; rename one"
            )
        vocab[text] = id_
    _check_special_tokens(spec, vocab)
    return vocab


def _check_special_tokens(spec: TokenizerSpec, vocab: Mapping[str, int]) -> None:
    """Refuse special tokens that the written vocabulary would not give back."""
    for ambiguous in sorted(also_ordinary(spec.found_ids.keys() & vocab.keys(), spec.merges)):
        raise ValueError(
            f"special token {ambiguous!r} is the written form of other bytes, which the format cannot hold; rename it"
        )
    hidden = {}  # ordinary tokens that are special tokens, too, and whose written form in merges is missing
    for text in spec.found_ids:
        token = text.encode("utf-8")
        if to_characters(token) not in vocab:
            hidden[token] = text
    for merge in spec.merges if hidden else ():
        for token in (*merge, merge[0] + merge[1]):
            if token in hidden:
                raise ValueError(
                    f"merge {merge!r} uses the bytes of the special token {hidden[token]!r}, which the format cannot "
                    "hold; rename the special token"
                )
