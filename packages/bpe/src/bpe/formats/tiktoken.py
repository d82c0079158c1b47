"""tiktoken's format: a line for each token, its bytes in Base64 and its rank, which is both its id and its priority.

tiktoken takes a pre-token that is a token for that token, and otherwise merges any two neighbours that together are a
token, the lowest rank first. Whatever the text around, a token can come from one pair only: the two parts that are
left when its own bytes are merged so. These pairs are the merges; tokens without one need `ignore_merges`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bpe.files import write_text
from bpe.formats.json_files import read_text
from bpe.text.special_tokens import check_special_tokens
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

_NO_RANK = 1 << 62


class RecoveredMerges(NamedTuple):
    """The merges that ranks stand for, in order of priority, and the tokens that no merge makes."""

    merges: list[tuple[bytes, bytes]]
    unmade: list[bytes]


def load(path: StrPath, pattern: str, special_tokens: Mapping[str, int] | Iterable[str] | None) -> Tokenizer:
    """Read a .tiktoken file; special tokens come with their ids, or are appended in their order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not one, it lacks bytes that its tokens have, or a special token has the id of
            another token.
    """
    from bpe.tokenizer import Tokenizer

    ranks = read_ranks(path)
    for byte in sorted(set(b"".join(ranks))):
        if bytes([byte]) not in ranks:
            raise ValueError(f"file {str(path)!r} has no rank for {bytes([byte])!r}, which its tokens need; check it")
    merges, unmade = recover_merges(ranks)
    vocab = {rank: token for token, rank in ranks.items()}
    if isinstance(special_tokens, Mapping):
        for special, id_ in special_tokens.items():
            if id_ in vocab:
                raise ValueError(
                    f"special token {special!r} has id {id_}, which {vocab[id_]!r} has; give it another id"
                )
            vocab[id_] = special.encode("utf-8")
    tokenizer = Tokenizer(
        vocab, merges, check_special_tokens(special_tokens), pattern=pattern, ignore_merges=bool(unmade)
    )
    if isinstance(special_tokens, Mapping):
        for special, id_ in special_tokens.items():
            if tokenizer.token_to_id(special) != id_:
                raise ValueError(
                    f"special token {special!r} has id {id_}, expected one above {tokenizer.token_to_id(special)}, the "
                    "rank of the token of the same bytes; give it a higher id"
                )
    return tokenizer


def read_ranks(path: StrPath) -> dict[bytes, int]:
    """Read the rank of every token.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not Base64 and a number, or a token or rank comes twice.
    """
    ranks: dict[bytes, int] = {}
    tokens = 0
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            if not (rank.isascii() and rank.isdigit()):
                raise ValueError("not a rank")
            ranks[base64.b64decode(encoded, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"line {number} of {str(path)!r} is {line!r}, expected Base64, a space and a rank"
            ) from None
        tokens += 1
    if not ranks or len(ranks) != tokens or len(set(ranks.values())) != tokens:
        raise ValueError(
            f"file {str(path)!r} has {tokens} lines, {len(ranks)} tokens and {len(set(ranks.values()))} ranks in "
            "them, expected some tokens, each once and with a rank of its own; check it"
        )
    return ranks


def recover_merges(ranks: Mapping[bytes, int]) -> RecoveredMerges:
    """Return the merges that ranks stand for, by merging the bytes of each token until two parts are left."""
    found = RecoveredMerges([], [])
    for token in sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__):
        parts = _last_parts(token, ranks)
        if len(parts) == 2:
            found.merges.append((parts[0], parts[1]))
        else:
            found.unmade.append(token)
    return found


def _last_parts(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Merge the bytes of a token, the lowest rank first, until two parts or no pair is left."""
    parts = [token[index : index + 1] for index in range(len(token))]
    rank_of = ranks.get
    pair_ranks = [rank_of(token[index : index + 2], _NO_RANK) for index in range(len(token) - 1)]
    while len(pair_ranks) > 1:
        lowest = min(pair_ranks)
        if lowest == _NO_RANK:
            break
        place = pair_ranks.index(lowest)
        del pair_ranks[place]
        parts[place] += parts.pop(place + 1)
        if place:
            pair_ranks[place - 1] = rank_of(parts[place - 1] + parts[place], _NO_RANK)
        if place < len(pair_ranks):
            pair_ranks[place] = rank_of(parts[place] + parts[place + 1], _NO_RANK)
    return parts


def save(tokenizer: Tokenizer, path: StrPath) -> None:
    """Write a .tiktoken file of all tokens that are not special.

    Raises:
        ValueError: If tiktoken would give other ids with it.
    """
    reason = obstacle(tokenizer)
    if reason:
        raise ValueError(f"this tokenizer cannot be written for tiktoken: {reason}; use save_huggingface")
    save_ranks(tokenizer, path)


def save_ranks(tokenizer: Tokenizer, path: StrPath) -> None:
    """Write the .tiktoken file of a tokenizer that has no `obstacle`."""
    tokens = sorted(_ordinary_tokens(tokenizer).items())
    lines = [f"{base64.b64encode(token).decode('ascii')} {id_}\n" for id_, token in tokens]
    write_text(Path(path), "".join(lines))


def _ordinary_tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    """Return the vocabulary without the special tokens."""
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    return {id_: token for id_, token in tokenizer.vocab.items() if id_ not in special}


def obstacle(tokenizer: Tokenizer) -> str:
    """Return why tiktoken would give other ids than a tokenizer, or nothing if it gives the same.

    Merges beyond those that the ranks stand for do no harm in the order of the ids they make: their two parts never
    are neighbours when it is their turn.
    """
    tokens = _ordinary_tokens(tokenizer)
    ranks = {token: id_ for id_, token in tokens.items()}
    if tokenizer.normalization:
        return f"it puts text into {tokenizer.normalization} first"
    if any(bytes([byte]) not in ranks for byte in range(256)):
        return "its vocabulary lacks some of the 256 bytes"
    if len(ranks) != len(tokens):
        return "two of its ids have the same bytes"
    merges = tokenizer.merges
    made: list[int] = []
    for left, right in merges:
        if left + right not in ranks:
            return f"its merge {(left, right)!r} makes a special token"
        made.append(ranks[left + right])
    recovered = recover_merges(ranks)
    if recovered.unmade and not tokenizer.ignore_merges:
        return f"no merges make its token {recovered.unmade[0]!r}, which tiktoken gives for a pre-token of these bytes"
    missing = set(recovered.merges).difference(merges)
    if missing:
        return f"it lacks the merge {min(missing)!r}, which its ids stand for"
    if any(before > after for before, after in pairwise(made)):
        return "its ids do not follow the order of its merges"
    return ""
