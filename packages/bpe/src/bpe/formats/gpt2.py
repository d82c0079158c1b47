"""GPT-2's format: vocab.json and merges.txt, with a printable character for every byte."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from bpe.files import write_text
from bpe.formats.byte_characters import (
    also_ordinary,
    decode_vocab,
    encode_merges,
    encode_vocab,
    last_of_each,
)
from bpe.formats.json_files import read_json, read_text
from bpe.text import END_OF_TEXT, StrPath, from_characters, is_gpt2_pattern
from bpe.vocabulary import Merge, TokenizerSpec

_VERSION_LINE = "#version: 0.2"
_BRACKETED = re.compile(rb"<.+>|\[.+\]", re.DOTALL)
_FEW_UNMADE, _SHARE_UNMADE = 3, 1 / 20
"""So many tokens, and this share of them, may be without a merge that makes them."""


def load(vocab_path: StrPath, merges_path: StrPath, special_tokens: Sequence[str] | None = None) -> TokenizerSpec:
    """Read vocab.json and merges.txt; the files do not say which tokens are special.

    Without `special_tokens`, `<|endoftext|>` is special if it is in the vocabulary and no merge makes it. Other tokens
    that no merge makes are named in a warning, because ordinary text never becomes them.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is malformed, a merge needs a token that the vocabulary lacks, or merges are missing.
    """
    merges = read_merges(merges_path)
    vocab = read_vocab(vocab_path, special_tokens or (), merges)
    unmade: list[bytes] = []
    if special_tokens is None:
        made = {left + right for left, right in merges}
        unmade = [token for token in vocab.values() if len(token) > 1 and token not in made]
        end_of_text = END_OF_TEXT.encode()
        special_tokens = [END_OF_TEXT] if end_of_text in unmade else []
        unmade = [token for token in unmade if token != end_of_text]
    spec = TokenizerSpec.checked(vocab, merges, special_tokens)
    _check_complete(spec, vocab_path, merges_path)
    if unmade:
        names = ", ".join(repr(token.decode("utf-8", "replace")) for token in unmade[:5])
        warnings.warn(
            f"{str(vocab_path)!r} has {len(unmade):,} tokens that no merge makes, so that no text becomes them "
            f"({names}{', ...' if len(unmade) > 5 else ''}); name special ones in special_tokens ([] if there are "
            "none), and check that the merges are complete",
            stacklevel=3,
        )
    return spec


def _check_complete(spec: TokenizerSpec, vocab_path: StrPath, merges_path: StrPath) -> None:
    """Refuse merges that leave many tokens of the vocabulary unmade, as a file that was cut off does.

    Published vocabularies have a few tokens that no merge makes: special ones, most of them in angle or square
    brackets, and at most one in two hundred others.
    """
    made = {left + right for left, right in spec.merges}
    longer = [token for token in spec.ordinary_tokens.values() if len(token) > 1 and not _BRACKETED.fullmatch(token)]
    unmade = [token for token in longer if token not in made]
    if len(unmade) > max(_FEW_UNMADE, _SHARE_UNMADE * len(longer)):
        raise ValueError(
            f"no merge in {str(merges_path)!r} makes {len(unmade):,} of the {len(longer):,} tokens of several bytes in "
            f"{str(vocab_path)!r}, such as {unmade[0]!r}, so text would get other ids; fetch the merges again, or name "
            "the special tokens"
        )


def read_vocab(path: StrPath, special_tokens: Iterable[str] = (), merges: Sequence[Merge] = ()) -> dict[int, bytes]:
    """Read vocab.json: an object from written form to id.

    The written form of a special token is its text. If that is also the written form of a byte or, judging by `merges`,
    of another ordinary token, the entry is the ordinary token, and the special token gets an id of its own.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not such an object.
    """
    source = f"file {str(path)!r}"
    vocab = read_json(path)
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError(f"{source} has no vocabulary, expected a JSON object of token to id; check it")
    special_tokens = list(special_tokens)
    return decode_vocab(vocab, set(special_tokens) - also_ordinary(special_tokens, merges), source)


def read_merges(path: StrPath) -> list[Merge]:
    """Read merges.txt: two written forms per line with a space between them, optionally after a version line.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line is anything else.
    """
    # Not splitlines, which knows more line breaks than the format does.
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


def can_hold(spec: TokenizerSpec) -> bool:
    """Return whether readers get the same ids: the format implies GPT-2's pattern and special tokens, nothing else."""
    others = spec.normalization or spec.ignore_merges or spec.added_tokens or spec.add_prefix_space or spec.byte_pattern
    return is_gpt2_pattern(spec.pattern) and not others


def save(spec: TokenizerSpec, vocab_path: StrPath, merges_path: StrPath) -> None:
    """Write vocab.json and merges.txt; neither holds the pattern or says which tokens are special.

    Raises:
        ValueError: If the format cannot hold the vocabulary; see `encode_vocab`.
    """
    lines = [_VERSION_LINE, *(f"{left} {right}" for left, right in encode_merges(spec))]
    write_text(Path(vocab_path), json.dumps(encode_vocab(spec), ensure_ascii=False) + "\n")
    write_text(Path(merges_path), "\n".join(lines) + "\n")
