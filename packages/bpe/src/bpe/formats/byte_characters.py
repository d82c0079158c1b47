"""Tokens as GPT-2's files and tokenizer.json write them: a printable character for every byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

Merge = tuple[bytes, bytes]


@lru_cache(maxsize=1)
def byte_characters() -> tuple[str, ...]:
    """Return the character that stands for each byte: itself if printable in Latin-1, else U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[int, int | None]:
    """Return a table for `str.translate` to the characters whose numbers are the bytes."""
    table: dict[int, int | None] = {ord(character): byte for byte, character in enumerate(byte_characters())}
    return table


@lru_cache(maxsize=1)
def _characters_of_bytes() -> dict[int, str]:
    """Return a table for `str.translate` from the characters whose numbers are the bytes."""
    return dict(enumerate(byte_characters()))


def to_characters(token: bytes) -> str:
    """Return a token with each byte written as its character."""
    return token.decode("latin-1").translate(_characters_of_bytes())


def from_characters(text: str) -> bytes:
    """Return the token that was written with `to_characters`.

    Raises:
        ValueError: If a character stands for no byte.
    """
    table = _bytes_of_characters()
    for character in text:
        if ord(character) not in table:
            raise ValueError(f"token {text!r} has {character!r}, which stands for no byte; name it as a special token")
    return text.translate(table).encode("latin-1")


def is_also_ordinary(special_token: str, merges: Iterable[Merge]) -> bool:
    """Say whether the text of a special token is also how a byte, or a part or product of a merge, is written.

    That of other bytes only: an ordinary token that is the same text is no matter.
    """
    if special_token.isascii():
        return False
    try:
        token = from_characters(special_token)
    except ValueError:
        return False
    return len(token) == 1 or any(token in (left, right, left + right) for left, right in merges)


def decode_vocab(vocab: Mapping[str, int], special_tokens: Iterable[str], source: str) -> dict[int, bytes]:
    """Return the vocabulary by id, from one by written token; special tokens are written as they are.

    Raises:
        ValueError: If an id is no whole number or comes twice, or a token is not written as one.
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
    """Return merges with only the last of equal ones, the one that counts for the readers of these files."""
    return list(dict.fromkeys(reversed(merges)))[::-1]


def encode_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Return the written merges; of equal ones only the first, the one that counts here."""
    return [(to_characters(left), to_characters(right)) for left, right in dict.fromkeys(tokenizer.merges)]


def encode_vocab(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the vocabulary by written token, in order of ids.

    Raises:
        ValueError: If two tokens would be written alike, or merges use a special token by the bytes it is not
            written with, so that the format cannot hold them.
    """
    special = {tokenizer.token_to_id(token): token for token in tokenizer.special_tokens}
    vocab: dict[str, int] = {}
    for id_, token in sorted(tokenizer.vocab.items()):
        text = special.get(id_) or to_characters(token)
        if text in vocab:
            raise ValueError(
                f"ids {vocab[text]} and {id_} are both written {text!r}, which the format cannot hold; rename one"
            )
        vocab[text] = id_
    _check_special_tokens(tokenizer, vocab)
    return vocab


def _check_special_tokens(tokenizer: Tokenizer, vocab: Mapping[str, int]) -> None:
    """Refuse special tokens that would not be read back as they are, given the written vocabulary."""
    merges = tokenizer.merges
    hidden = {}  # ordinary tokens that are special tokens too, and are not written as merges write them
    for text in tokenizer.special_tokens:
        if is_also_ordinary(text, merges):
            raise ValueError(
                f"special token {text!r} is also how other bytes are written, which the format cannot hold; rename it"
            )
        token = text.encode("utf-8")
        if to_characters(token) not in vocab:
            hidden[token] = text
    for merge in merges if hidden else ():
        for token in (*merge, merge[0] + merge[1]):
            if token in hidden:
                raise ValueError(
                    f"merge {merge!r} uses the bytes of the special token {hidden[token]!r}, which the format cannot "
                    "hold; rename the special token"
                )
