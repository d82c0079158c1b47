"""The byte level of GPT-2: a printable character for every byte, in which other libraries write tokens."""

from __future__ import annotations

from functools import lru_cache


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


def is_byte_level(text: str) -> bool:
    """Return whether every character of a text stands for a byte."""
    table = _bytes_of_characters()
    return all(ord(character) in table for character in text)


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
