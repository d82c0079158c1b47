"""The vocabulary and merges of a tokenizer.json as arrays, which takes milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from bpe.text import byte_characters
from bpe.vocabulary import PackedVocabulary

if TYPE_CHECKING:
    import numpy as np

_SPACE, _LINE_FEED = 0x20, 0x0A
_MOST_GAPS = 16
"""The ids may be so many times as large as the number of tokens."""


def pack(vocab: Mapping[str, int], merges: Sequence[Any], added: Mapping[str, int]) -> PackedVocabulary | None:
    """Return the vocabulary and the merges of a tokenizer.json as arrays, or None if anything about them is unusual.

    The caller then reads them token by token, and finds what is wrong, if anything is.

    Args:
        vocab: The id of each token by its written form.
        merges: The merges by rank: "A B", or ["A", "B"].
        added: The ids of added tokens by content. If they are in `vocab`, too, their written form there is the content.
    """
    import numpy as np

    from bpe.kernels.merging.applying import rank_table
    from bpe.kernels.tables.pretokens import PretokenTable

    if set(map(type, vocab.values())) != {int} or not merges:
        return None
    vocab = dict(vocab)
    for content in added:
        vocab.pop(content, None)
    encoded = {content.encode("utf-8"): id_ for content, id_ in added.items()}
    ids = np.fromiter(vocab.values(), dtype=np.int64, count=len(vocab))
    numbers = np.concatenate((ids, np.array([*encoded.values()], dtype=np.int64)))
    if not len(ids) or numbers.min() < 0 or numbers.max() >= _MOST_GAPS * len(ids) or np.bincount(numbers).max() > 1:
        return None

    offsets = np.zeros(len(vocab) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, vocab), dtype=np.int64, count=len(vocab)), out=offsets[1:])
    data = _bytes_of("".join(vocab))
    parts = _parts(merges)
    if data is None or len(data) != offsets[-1] or parts is None or not (offsets[1:] > offsets[:-1]).all():
        return None
    joined, bounds = parts
    table = PretokenTable(1 << (2 * len(vocab)).bit_length(), max(len(data), 1))
    table.add(data, offsets, ids)
    starts, middles, ends = bounds[:-1:2].copy(), bounds[1::2].copy(), bounds[2::2].copy()
    found = (table.find(joined, starts, middles), table.find(joined, middles, ends), table.find(joined, starts, ends))
    hidden = b"".join(encoded)
    limits = np.cumsum([0, *map(len, encoded)])
    if min(array.min() for array in found) < 0 or (table.find(_array(hidden), limits[:-1], limits[1:]) >= 0).any():
        return None
    ranks = rank_table(*found[:2])
    if np.count_nonzero(ranks != np.uint64(2**64 - 1)) != len(merges):  # some are equal
        return None
    return PackedVocabulary(data, offsets, ids, table, encoded, found, ranks)


def _array(data: bytes) -> np.ndarray:
    """Return bytes as an array."""
    import numpy as np

    return np.frombuffer(data, dtype=np.uint8)


@lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    """Return the byte for which each UTF-16 unit stands, or -1: int16, shape (65536,)."""
    import numpy as np

    table = np.full(1 << 16, -1, dtype=np.int16)
    table[list(map(ord, byte_characters()))] = np.arange(256)
    return table


def _bytes_of(text: str) -> np.ndarray | None:
    """Return the bytes with a written form, or None if a character stands for no byte."""
    import numpy as np

    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    values = _byte_table()[units]
    return values.astype(np.uint8) if (values >= 0).all() else None


def _parts(merges: Sequence[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the joined bytes of merges, and the bounds of their left and right parts, or None if one is malformed."""
    import numpy as np

    kinds = set(map(type, merges))
    try:
        if kinds == {str}:
            text, expected = "\n".join(merges), (_SPACE, _LINE_FEED)
        elif kinds == {list} and set(map(len, merges)) == {2}:
            text, expected = " ".join(chain.from_iterable(merges)), (_SPACE, _SPACE)
        else:
            return None
    except TypeError:  # a part is not a string
        return None
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    values = _byte_table()[units]
    separators = np.flatnonzero(values < 0)
    marks = units[separators]
    if len(marks) != 2 * len(merges) - 1 or (marks[::2] != expected[0]).any() or (marks[1::2] != expected[1]).any():
        return None
    ends = np.append(separators, len(units)) - np.arange(2 * len(merges))
    bounds = np.concatenate(([0], ends))
    if not (bounds[1:] > bounds[:-1]).all():
        return None
    return values[values >= 0].astype(np.uint8), bounds
