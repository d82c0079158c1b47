"""The file of counted pre-tokens, for corpora that are counted in parts on several machines.

It is compact, checked, and identical for equal counts: a line `bpe-counts 1`; a line of JSON (number of pre-tokens,
pattern or a list of several, special tokens if they are known, CRC-32, compressed sizes); and three parts compressed by
zlib: the lengths of the pre-tokens in bytes, their counts (both little-endian 64-bit integers), and their bytes. The
pre-tokens are sorted by their bytes.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bpe.files import whole_file
from bpe.text import Pattern, StrPath, check_special_tokens

if TYPE_CHECKING:
    import numpy as np

_NAME, _VERSION = "bpe-counts", 1
_FAST = 1  # higher levels of compression take five times as long and save a tenth


class CountsContent(NamedTuple):
    """Content of a file of counts."""

    pretokens: np.ndarray
    """The concatenated pre-tokens: uint8, shape (total bytes,)."""
    offsets: np.ndarray
    """The bounds of the pre-tokens: int64, shape (n + 1,)."""
    counts: np.ndarray
    """int64, shape (n,)."""
    pattern: Pattern
    special_tokens: list[str] | None


def save(
    path: StrPath,
    pretokens: np.ndarray,
    offsets: np.ndarray,
    counts: np.ndarray,
    *,
    pattern: Pattern,
    special_tokens: tuple[str, ...] | None,
) -> None:
    """Write counts; `CountsContent` describes the arrays, here in any order.

    Raises:
        OSError: If the file cannot be written.
    """
    import numpy as np

    lengths = offsets[1:] - offsets[:-1]
    order = _order(pretokens, offsets)
    # For each byte in the new order: its index in the old one.
    starts = np.repeat(offsets[:-1][order] - np.concatenate(([0], np.cumsum(lengths[order])[:-1])), lengths[order])
    ordered = pretokens[starts + np.arange(len(pretokens))] if len(pretokens) else pretokens
    parts = [lengths[order].astype("<i8").tobytes(), counts[order].astype("<i8").tobytes(), ordered.tobytes()]
    packed = [zlib.compress(part, _FAST) for part in parts]
    facts: dict[str, object] = {
        "pretokens": len(counts),
        "pattern": pattern,
        "crc32": [zlib.crc32(part) for part in parts],
        "packed": [len(part) for part in packed],
    }
    if special_tokens is not None:
        facts["special_tokens"] = special_tokens
    with whole_file(Path(path)) as file:
        file.write(f"{_NAME} {_VERSION}\n{json.dumps(facts)}\n".encode())
        file.writelines(packed)


def _order(pretokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the indices that sort the pre-tokens by their bytes: int64, shape (n,)."""
    import numpy as np

    lengths = offsets[1:] - offsets[:-1]
    prefix = np.zeros(len(lengths), dtype=np.uint64)
    for position in range(8):
        longer = lengths > position
        prefix <<= np.uint64(8)
        prefix[longer] |= pretokens[offsets[:-1][longer] + position]
    order = np.lexsort((lengths, prefix))
    # Pre-tokens that agree in eight bytes are sorted one by one.
    same = np.concatenate(([False], prefix[order][1:] == prefix[order][:-1]))
    firsts = np.flatnonzero(~same)
    ends = np.append(firsts[1:], len(order))
    for first, end in zip(firsts[ends - firsts > 1].tolist(), ends[ends - firsts > 1].tolist(), strict=True):
        run = order[first:end].tolist()
        order[first:end] = sorted(run, key=lambda index: pretokens[offsets[index] : offsets[index + 1]].tobytes())
    return order


def load(path: StrPath) -> CountsContent:
    """Read counts that `save` wrote.

    Raises:
        OSError: If the file does not exist or cannot be read.
        ValueError: If it is not a file of counts, is damaged, or has a newer version.
    """
    import numpy as np

    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    damaged = f"file {str(path)!r} has no pre-token counts, or is damaged; create it with `python -m bpe count`"
    with source.open("rb") as file:
        name, _, version = file.readline(100).decode("ascii", "replace").partition(" ")
        if name != _NAME or not version.strip().isdigit():
            raise ValueError(damaged)
        if int(version) != _VERSION:
            raise ValueError(f"file {str(path)!r} has version {int(version)}, expected {_VERSION}; update this package")
        try:
            facts = json.loads(file.readline())
            packed, pattern = facts["packed"], facts["pattern"]
            several = isinstance(pattern, list) and len(pattern) > 1 and all(isinstance(one, str) for one in pattern)
            # Check sizes first, or a damaged header could allocate any amount.
            size = source.stat().st_size - file.tell() if source.is_file() else sum(packed)
            if len(packed) != 3 or min(packed) < 0 or sum(packed) != size or not (several or isinstance(pattern, str)):
                raise ValueError(damaged)
            parts = [zlib.decompress(file.read(part)) for part in packed]
            whole = [zlib.crc32(part) for part in parts] == facts["crc32"] and not file.read(1)
            lengths, counts = (np.frombuffer(part, dtype="<i8").astype(np.int64) for part in parts[:2])
            pretokens, number = np.frombuffer(parts[2], dtype=np.uint8), facts["pretokens"]
            special = facts.get("special_tokens")  # files of earlier versions lack them
            special = None if special is None else check_special_tokens(special)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError, zlib.error) as error:
            raise ValueError(damaged) from error
    if not whole or not len(lengths) == len(counts) == number or (number and counts.min() < 1):
        raise ValueError(damaged)
    # The kernels trust the offsets. Each length is bounded, so an overflowing sum would be negative at some point.
    if number and not 1 <= lengths.min() <= lengths.max() <= len(pretokens):
        raise ValueError(damaged)
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
    if offsets.min() < 0 or offsets[-1] != len(pretokens):
        raise ValueError(damaged)
    return CountsContent(pretokens, offsets, counts, tuple(pattern) if several else pattern, special)
