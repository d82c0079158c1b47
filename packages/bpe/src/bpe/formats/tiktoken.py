"""tiktoken's format: one line per token with its bytes in Base64 and its rank, which is its id and its priority.

tiktoken first looks up the whole pre-token. If it is not a token, any two neighbours that together are a token are
merged, the lowest rank first. Whatever the text around it, a token can arise from one pair only: the last two parts
that remain when its own bytes are merged in this way. These pairs are the merges; tokens without such a pair need
`ignore_merges`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bpe.files import write_text
from bpe.formats.json_files import read_text
from bpe.text import StrPath
from bpe.vocabulary import Merge, TokenizerSpec

_NO_RANK = 1 << 62


class RecoveredMerges(NamedTuple):
    """The merges implied by ranks, in order of priority, and the tokens that no merge makes."""

    merges: list[Merge]
    unmade: list[bytes]


def load(path: StrPath, pattern: str, special_tokens: Mapping[str, int] | Iterable[str] | None) -> TokenizerSpec:
    """Read a .tiktoken file; special tokens come with their ids, or are appended in their order.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is malformed or lacks a byte of one of its tokens, or a special token has the id of
            another token.
    """
    ranks = read_ranks(path)
    for byte in sorted(set(b"".join(ranks))):
        if bytes([byte]) not in ranks:
            raise ValueError(f"file {str(path)!r} has no rank for {bytes([byte])!r}, which its tokens need; check it")
    merges, unmade = recover_merges(ranks)
    vocab = {rank: token for token, rank in ranks.items()}
    return TokenizerSpec.checked(vocab, merges, special_tokens, pattern=pattern, ignore_merges=bool(unmade))


def read_ranks(path: StrPath) -> dict[bytes, int]:
    """Read the rank of every token.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line is not Base64 and a number, or a token or rank occurs twice.
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
            "them, expected at least one token, and each token and each rank once; check it"
        )
    return ranks


def recover_merges(ranks: Mapping[bytes, int]) -> RecoveredMerges:
    """Return the merges implied by ranks: the bytes of each token are merged until two parts are left."""
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
        first = pair_ranks.index(lowest)
        del pair_ranks[first]
        parts[first] += parts.pop(first + 1)
        if first:
            pair_ranks[first - 1] = rank_of(parts[first - 1] + parts[first], _NO_RANK)
        if first < len(pair_ranks):
            pair_ranks[first] = rank_of(parts[first] + parts[first + 1], _NO_RANK)
    return parts


def save(spec: TokenizerSpec, path: StrPath) -> None:
    """Write a .tiktoken file of all tokens except the special tokens.

    Raises:
        ValueError: If tiktoken would give other ids with it.
    """
    reason = obstacle(spec)
    if reason:
        raise ValueError(f"this tokenizer cannot be written for tiktoken: {reason}; use save_huggingface")
    save_ranks(spec, path)


def save_ranks(spec: TokenizerSpec, path: StrPath) -> None:
    """Write the .tiktoken file of a tokenizer that has no `obstacle`."""
    tokens = sorted(spec.ordinary_tokens.items())
    lines = [f"{base64.b64encode(token).decode('ascii')} {id_}\n" for id_, token in tokens]
    write_text(Path(path), "".join(lines))


def obstacle(spec: TokenizerSpec) -> str:
    """Return the reason why tiktoken would give other ids, or an empty string if it gives the same.

    Merges beyond those implied by the ranks do no harm if they follow the order of the ids they make: their two parts
    are never neighbours when their turn comes.
    """
    tokens = spec.ordinary_tokens
    ranks = {token: id_ for id_, token in tokens.items()}
    if spec.normalization:
        return f"it normalizes text to {spec.normalization} first"
    if isinstance(spec.pattern, tuple) or spec.byte_pattern:
        return "it splits text by several patterns"
    if spec.add_prefix_space:
        return "its add_prefix_space puts a space before a text"
    for token in spec.added_tokens:
        if token.looks_around or token.normalized:
            return f"it finds {token!r} in another way than tiktoken does"
    if any(bytes([byte]) not in ranks for byte in range(256)):
        return "its vocabulary lacks some of the 256 bytes"
    if len(ranks) != len(tokens):
        return "two of its ids have the same bytes"
    made: list[int] = []
    for left, right in spec.merges:
        if left + right not in ranks:
            return f"its merge {(left, right)!r} makes a special token"
        made.append(ranks[left + right])
    recovered = recover_merges(ranks)
    if recovered.unmade and not spec.ignore_merges:
        return (
            f"no merges make its token {recovered.unmade[0]!r}, which tiktoken returns for a pre-token of these bytes"
        )
    missing = set(recovered.merges).difference(spec.merges)
    if missing:
        return f"it lacks the merge {min(missing)!r}, which its ids imply"
    if any(before > after for before, after in pairwise(made)):
        return "its ids do not follow the order of its merges"
    return ""
