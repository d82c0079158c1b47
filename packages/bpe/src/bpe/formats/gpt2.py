"""GPT-2's format: vocab.json and merges.txt, with every byte written as a printable character."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.files import write_text
from bpe.formats.byte_characters import (
    Merge,
    decode_vocab,
    encode_merges,
    encode_vocab,
    from_characters,
    is_also_ordinary,
    last_of_each,
)
from bpe.formats.json_files import read_json, read_text
from bpe.text.patterns import is_gpt2_pattern
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

_VERSION_LINE = "#version: 0.2"


def read_vocab(path: StrPath, special_tokens: Iterable[str] = (), merges: Sequence[Merge] = ()) -> dict[int, bytes]:
    """Read vocab.json: an object of written token to id.

    Special tokens in it are written as they are. One whose text also writes a byte or, as far as `merges` tell,
    another ordinary token is taken for that, so that the special token gets an id of its own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such an object.
    """
    source = f"file {str(path)!r}"
    vocab = read_json(path)
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError(f"{source} has no vocabulary, expected a JSON object of token to id; check it")
    return decode_vocab(vocab, [token for token in special_tokens if not is_also_ordinary(token, merges)], source)


def read_merges(path: StrPath) -> list[Merge]:
    """Read merges.txt: two written tokens on a line with a space between them, perhaps after a version line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is something else.
    """
    # Not splitlines: it takes more characters for ends of lines than the format does.
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    first = 1 if lines[0].startswith("#version:") else 0
    merges: list[Merge] = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        try:
            left, right = map(from_characters, line.split(" "))
            if not (left and right):
                raise ValueError("a token is empty")
        except ValueError as error:
            why = f": {error}" if "stands for" in str(error) else ""
            raise ValueError(
                f"line {number} of {str(path)!r} is {line!r}, expected two tokens with one space between{why}"
            ) from None
        merges.append((left, right))
    return last_of_each(merges)


def obstacle(tokenizer: Tokenizer) -> str:
    """Return why readers of this format would give other ids, or nothing: it implies how text is prepared."""
    if not is_gpt2_pattern(tokenizer.pattern):
        return "it does not hold a pattern, and readers take GPT-2's"
    if tokenizer.normalization:
        return "it does not say that text is normalised"
    return "it does not say that merges are ignored for whole tokens" if tokenizer.ignore_merges else ""


def save(tokenizer: Tokenizer, vocab_path: StrPath, merges_path: StrPath) -> None:
    """Write vocab.json and merges.txt; neither holds the pattern or says which tokens are special.

    Raises:
        ValueError: If the format cannot hold the vocabulary.
    """
    lines = [_VERSION_LINE, *(f"{left} {right}" for left, right in encode_merges(tokenizer))]
    write_text(Path(vocab_path), json.dumps(encode_vocab(tokenizer), ensure_ascii=False) + "\n")
    write_text(Path(merges_path), "\n".join(lines) + "\n")
