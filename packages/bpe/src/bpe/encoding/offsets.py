"""Offsets of tokens in a text: the characters from which each token comes."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bpe.text import utf8_view

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class NormalizedText(NamedTuple):
    """A text in a normal form, with the origin of its characters."""

    text: str
    spans: np.ndarray
    """The [start, end) characters from which each character comes: int64, shape (characters, 2)."""


def normalize(parts: Iterable[tuple[str, str]]) -> NormalizedText:
    """Convert a text to NFC, given as parts with the special token after each, which stays as it is.

    Normalization does not cross the boundary between two grapheme clusters. The characters of a cluster that changes
    all come from the whole cluster.
    """
    import regex

    normal: list[str] = []
    starts, ends = array("q"), array("q")
    done = 0
    for part, special in parts:
        clusters = regex.findall(r"\X", part)
        for before, after in [
            *((cluster, unicodedata.normalize("NFC", cluster)) for cluster in clusters),
            (special,) * 2,
        ]:
            begin, done = done, done + len(before)
            if before == after:
                starts.extend(range(begin, done))
                ends.extend(range(begin + 1, done + 1))
            else:
                starts.extend([begin] * len(after))
                ends.extend([done] * len(after))
            normal.append(after)
    return NormalizedText("".join(normal), np.stack((np.array(starts, np.int64), np.array(ends, np.int64)), axis=1))


def character_offsets(text: str, sizes: np.ndarray, normalized: NormalizedText | None = None) -> np.ndarray:
    """Return the [start, end) characters of each token: int64, shape (tokens, 2).

    A token that holds a part of a character spans the whole character.

    Args:
        text: The text.
        sizes: The number of bytes of each token, which together are the UTF-8 of the text: int64, shape (tokens,).
        normalized: The normalized text, if its UTF-8 was encoded instead.

    Raises:
        ValueError: If the tokens have more or fewer bytes than the text.
    """
    encoded = text if normalized is None else normalized.text
    data = np.frombuffer(utf8_view(encoded), dtype=np.uint8)
    ends = np.cumsum(sizes)
    if sizes.sum() != len(data):
        raise ValueError(
            f"the tokens have {sizes.sum():,} bytes, but the text has {len(data):,}; there are no offsets where tokens "
            "are not the bytes of the text"
        )
    if encoded.isascii():
        offsets = np.stack((ends - sizes, ends), axis=1)
    else:
        characters = np.cumsum((data & 0xC0) != 0x80)  # the number of characters that begin up to each byte
        offsets = np.stack((characters[ends - sizes] - 1, characters[ends - 1]), axis=1)
    if normalized is not None:
        offsets = np.stack((normalized.spans[offsets[:, 0], 0], normalized.spans[offsets[:, 1] - 1, 1]), axis=1)
    if len(offsets) and offsets[-1, 1] < len(text):
        # Each surrogate pair was encoded as one character.
        pairs = [match.start() - number for number, match in enumerate(_SURROGATE_PAIR.finditer(text))]
        offsets += np.searchsorted(pairs, offsets)
    return offsets
