"""Tokens in the written form of GPT-2's files and tokenizer.json: a printable character for every byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from bpe.vocabulary import Merge, TokenizerSpec


@lru_cache(maxsize=1)
def byte_characters() -> tuple[str, ...]:
    """Return the character for each byte: its Latin-1 character if printable, else a character from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[int, int | None]:
    """Return a table for `str.translate` from the characters for bytes to Latin-1."""
    table: dict[int, int | None] = {ord(character): byte for byte, character in enumerate(byte_characters())}
    return table


@lru_cache(maxsize=1)
def _characters_of_bytes() -> dict[int, str]:
    """Return a table for `str.translate` from Latin-1 to the characters for bytes."""
    return dict(enumerate(byte_characters()))


def to_characters(token: bytes) -> str:
    """Return the written form of a token: the character for each byte."""
    return token.decode("latin-1").translate(_characters_of_bytes())


def from_characters(text: str) -> bytes:
    """Return the token with a written form.

    Raises:
        ValueError: If a character does not stand for a byte.
    """
    table = _bytes_of_characters()
    for character in text:
        if ord(character) not in table:
            raise ValueError(f"token {text!r} has {character!r}, which stands for no byte; name it as a special token")
    return text.translate(table).encode("latin-1")


def also_ordinary(special_tokens: Iterable[str], merges: Iterable[Merge]) -> set[str]:
    """Return the special tokens that are also the written form of another token: of a byte, or of a token in a merge.

    An ordinary token of the same text does not count, because both have the same bytes.
    """
    table = _bytes_of_characters()
    written = {
        token: from_characters(token)
        for token in special_tokens
        if not token.isascii() and all(ord(character) in table for character in token)
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


def encode_vocab(spec: TokenizerSpec) -> dict[str, int]:
    """Return the vocabulary by written form, in order of ids.

    Raises:
        ValueError: If two tokens have the same written form, or a merge needs the bytes of a special token, whose
            written form is its text; the format cannot hold either.
    """
    special = {id_: token for token, id_ in spec.special_ids.items()}
    vocab: dict[str, int] = {}
    for id_, token in sorted(spec.vocab.items()):
        text = special.get(id_) or to_characters(token)
        if text in vocab:
            raise ValueError(
                f"ids {vocab[text]} and {id_} are both written {text!r}, which the format cannot hold; rename one"
            )
        vocab[text] = id_
    _check_special_tokens(spec, vocab)
    return vocab


def _check_special_tokens(spec: TokenizerSpec, vocab: Mapping[str, int]) -> None:
    """Refuse special tokens that the written vocabulary would not give back."""
    for ambiguous in sorted(also_ordinary(spec.special_tokens, spec.merges)):
        raise ValueError(
            f"special token {ambiguous!r} is the written form of other bytes, which the format cannot hold; rename it"
        )
    hidden = {}  # ordinary tokens that are special tokens, too, and whose written form in merges is missing
    for text in spec.special_tokens:
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
