"""The file of counted pre-tokens.

It is made for corpora counted in parts on several machines: small, checked, and the same for the same counts. A line
`bpe-counts 1`, a line of JSON (number of pre-tokens, pattern, CRC-32, packed sizes), and three parts packed by zlib:
the lengths of the pre-tokens in bytes, their counts (both little-endian numbers of 64 bits), and their bytes, in the
order of the bytes.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.files import whole_file
from bpe.texts import StrPath

if TYPE_CHECKING:
    import numpy as np

    from bpe.pretoken_counts import PretokenCounts

_NAME, _VERSION = "bpe-counts", 1
_FAST = 1  # higher levels of packing take five times as long for a tenth less


def save(counts: PretokenCounts, path: StrPath) -> None:
    """Write counts; see `PretokenCounts.save`."""
    import numpy as np

    words, offsets, numbers = counts.arrays()
    lengths = offsets[1:] - offsets[:-1]
    order = _order(words, offsets)
    # The bytes in the new order: for each byte, where it comes from.
    starts = np.repeat(offsets[:-1][order] - np.concatenate(([0], np.cumsum(lengths[order])[:-1])), lengths[order])
    sorted_words = words[starts + np.arange(len(words))] if len(words) else words
    parts = [lengths[order].astype("<i8").tobytes(), numbers[order].astype("<i8").tobytes(), sorted_words.tobytes()]
    packed = [zlib.compress(part, _FAST) for part in parts]
    facts = {
        "pretokens": len(numbers),
        "pattern": counts.pattern,
        "crc32": [zlib.crc32(part) for part in parts],
        "packed": [len(part) for part in packed],
    }
    with whole_file(Path(path)) as file:
        file.write(f"{_NAME} {_VERSION}\n{json.dumps(facts)}\n".encode())
        file.writelines(packed)


def _order(words: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the order of the words by their bytes: int64, shape (words,)."""
    import numpy as np

    lengths = offsets[1:] - offsets[:-1]
    prefix = np.zeros(len(lengths), dtype=np.uint64)
    for place in range(8):
        there = lengths > place
        prefix <<= np.uint64(8)
        prefix[there] |= words[offsets[:-1][there] + place]
    order = np.lexsort((lengths, prefix))
    # Words that agree in eight bytes are put in order one by one.
    same = np.concatenate(([False], prefix[order][1:] == prefix[order][:-1]))
    firsts = np.flatnonzero(~same)
    ends = np.append(firsts[1:], len(order))
    for first, end in zip(firsts[ends - firsts > 1].tolist(), ends[ends - firsts > 1].tolist(), strict=True):
        run = order[first:end].tolist()
        order[first:end] = sorted(run, key=lambda word: words[offsets[word] : offsets[word + 1]].tobytes())
    return order


def load(path: StrPath) -> PretokenCounts:
    """Read counts; see `PretokenCounts.load`."""
    import numpy as np

    from bpe.pretoken_counts import PretokenCounts

    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    damaged = f"file {str(path)!r} has no pre-token counts, or is damaged; make it with `python -m bpe count`"
    with source.open("rb") as file:
        name, _, version = file.readline(100).decode("ascii", "replace").partition(" ")
        if name != _NAME or not version.strip().isdigit():
            raise ValueError(damaged)
        if int(version) != _VERSION:
            raise ValueError(
                f"file {str(path)!r} is of version {int(version)}, expected {_VERSION}; update this package"
            )
        try:
            facts = json.loads(file.readline())
            parts = [zlib.decompress(file.read(size)) for size in facts["packed"]]
            whole = [zlib.crc32(part) for part in parts] == facts["crc32"] and not file.read(1)
            lengths, counts = (np.frombuffer(part, dtype="<i8").astype(np.int64) for part in parts[:2])
            words, pattern = np.frombuffer(parts[2], dtype=np.uint8), facts["pattern"]
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise ValueError(damaged) from error
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
    sound = len(lengths) == len(counts) == facts["pretokens"] and offsets[-1] == len(words)
    if not whole or not sound or (len(counts) and (lengths.min() < 1 or counts.min() < 1)):
        raise ValueError(damaged)
    return PretokenCounts.from_arrays(words, offsets, counts, pattern=pattern)
