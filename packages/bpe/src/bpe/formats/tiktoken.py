"""tiktoken's format: a line for each token, its bytes in Base64 and its rank, which is both its id and its priority."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.files import write_text
from bpe.formats.gpt2 import read_text
from bpe.special_tokens import check_special_tokens
from bpe.texts import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer


def load(path: StrPath, pattern: str, special_tokens: Mapping[str, int] | Iterable[str] | None) -> Tokenizer:
    """Read a .tiktoken file; special tokens come with their ids, or are appended in their order.

    Raises:
        ValueError: If the file is not one, a token cannot be made by merging two others of lower rank, or a special
            token has the id of another token.
    """
    from bpe.tokenizer import Tokenizer

    ranks = read_ranks(path)
    merges = recover_merges(ranks)
    vocab = {rank: token for token, rank in ranks.items()}
    if isinstance(special_tokens, Mapping):
        for special, id_ in special_tokens.items():
            if id_ in vocab:
                raise ValueError(
                    f"special token {special!r} has id {id_}, which {vocab[id_]!r} has; give it another id"
                )
            vocab[id_] = special.encode("utf-8")
    return Tokenizer(vocab, merges, check_special_tokens(special_tokens), pattern=pattern)


def read_ranks(path: StrPath) -> dict[bytes, int]:
    """Read the rank of every token.

    Raises:
        ValueError: If a line is not Base64 and a number, or a token or rank comes twice.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            ranks[base64.b64decode(encoded, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"line {number} of {str(path)!r} is {line!r}, expected Base64, a space and a rank"
            ) from None
    if not ranks or len(set(ranks.values())) != len(ranks):
        raise ValueError(
            f"file {str(path)!r} has {len(ranks)} tokens, expected some, each with a rank of its own; check it"
        )
    return ranks


def recover_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the merges that ranks stand for: a token's parts are what merging by lower ranks leaves of its bytes.

    Raises:
        ValueError: If that leaves more than two parts, so that no merge makes the token.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = _merge_below(token, ranks, rank)
        if len(parts) != 2:
            raise ValueError(
                f"token {token!r} of rank {rank} is not two tokens of lower rank merged; use tiktoken itself"
            )
        merges.append((parts[0], parts[1]))
    return merges


def _merge_below(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """Merge the bytes of a token by ranks lower than `limit`, the lowest first."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        options = [(ranks.get(left + right, limit), place) for place, (left, right) in enumerate(pairwise(parts))]
        rank, place = min(options)
        if rank >= limit:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def save(tokenizer: Tokenizer, path: StrPath) -> None:
    """Write a .tiktoken file of all tokens that are not special.

    Raises:
        ValueError: If the format cannot hold the tokenizer.
    """
    reason = obstacle(tokenizer)
    if reason:
        raise ValueError(f"this tokenizer cannot be written for tiktoken: {reason}; use save_huggingface")
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    tokens = sorted((id_, token) for id_, token in tokenizer.vocab.items() if id_ not in special)
    lines = [f"{base64.b64encode(token).decode('ascii')} {id_}\n" for id_, token in tokens]
    write_text(Path(path), "".join(lines))


def obstacle(tokenizer: Tokenizer) -> str:
    """Return why tiktoken's format cannot hold a tokenizer, or nothing if it can."""
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    ranks = {token: id_ for id_, token in tokenizer.vocab.items() if id_ not in special}
    if any(bytes([byte]) not in ranks for byte in range(256)):
        return "its vocabulary lacks some of the 256 bytes"
    if len(ranks) + len(special) != len(tokenizer.vocab):
        return "two of its ids have the same bytes"
    try:
        recovered = recover_merges(ranks)
    except ValueError as error:
        return str(error)
    return "" if recovered == tokenizer.merges else "its ids do not follow the order of its merges"
