"""GPT-2's format: vocab.json and merges.txt, with every byte written as a printable character."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.files import write_text
from bpe.texts import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

_VERSION_LINE = "#version: 0.2"


@lru_cache(maxsize=1)
def byte_characters() -> tuple[str, ...]:
    """Return the character that stands for each byte: itself if printable in Latin-1, else U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


@lru_cache(maxsize=1)
def _character_bytes() -> dict[str, int]:
    """Return the byte that each of those characters stands for."""
    return {character: byte for byte, character in enumerate(byte_characters())}


def to_characters(token: bytes) -> str:
    """Return a token with each byte written as its character."""
    return "".join(map(byte_characters().__getitem__, token))


def from_characters(text: str) -> bytes:
    """Return the token that was written with `to_characters`.

    Raises:
        ValueError: If a character stands for no byte.
    """
    try:
        return bytes(map(_character_bytes().__getitem__, text))
    except KeyError as error:
        raise ValueError(
            f"token {text!r} has {error.args[0]!r}, which stands for no byte; name it as a special token"
        ) from None


def read_text(path: StrPath) -> str:
    """Return the text of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"file {str(path)!r} is not UTF-8: {error.reason} at byte {error.start}; check it") from None


def read_json(path: StrPath) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"file {str(path)!r} is not JSON: {error}; check it") from None


def decode_vocab(vocab: Mapping[str, int], special_tokens: Iterable[str], source: str) -> dict[int, bytes]:
    """Return the vocabulary by id, from one by written token; special tokens are written as they are."""
    special = set(special_tokens)
    by_id: dict[int, bytes] = {}
    for text, id_ in vocab.items():
        if not isinstance(id_, int) or id_ in by_id:
            raise ValueError(f"{source} has the id {id_!r} for {text!r}, expected a whole number of its own; check it")
        by_id[id_] = text.encode("utf-8") if text in special else from_characters(text)
    return by_id


def read_vocab(path: StrPath, special_tokens: Iterable[str] = ()) -> dict[int, bytes]:
    """Read vocab.json: an object of written token to id."""
    vocab = read_json(path)
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError(f"file {str(path)!r} has no vocabulary, expected a JSON object of token to id; check it")
    return decode_vocab(vocab, special_tokens, f"file {str(path)!r}")


def read_merges(path: StrPath) -> list[tuple[bytes, bytes]]:
    """Read merges.txt: two written tokens on a line with a space between them, perhaps after a version line."""
    # Not splitlines: tokens may have characters that it takes for ends of lines.
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    first = 1 if lines[0].startswith("#version:") else 0
    merges = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"line {number} of {str(path)!r} is {line!r}, expected two tokens with one space between")
        merges.append((from_characters(parts[0]), from_characters(parts[1])))
    return merges


def encode_vocab(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the vocabulary by written token, in order of ids.

    Raises:
        ValueError: If two ids would be written alike, so that the format cannot hold them.
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
    return vocab


def save(tokenizer: Tokenizer, vocab_path: StrPath, merges_path: StrPath) -> None:
    """Write vocab.json and merges.txt; neither holds the pattern or says which tokens are special."""
    lines = [_VERSION_LINE, *(f"{to_characters(left)} {to_characters(right)}" for left, right in tokenizer.merges)]
    write_text(Path(vocab_path), json.dumps(encode_vocab(tokenizer), ensure_ascii=False) + "\n")
    write_text(Path(merges_path), "\n".join(lines) + "\n")
