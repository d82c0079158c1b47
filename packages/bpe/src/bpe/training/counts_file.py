"""The file of counted pre-tokens.

It is made for corpora counted in parts on several machines: small, checked, and the same for the same counts. A line
`bpe-counts 1`, a line of JSON (number of pre-tokens, pattern, special tokens if they are known, CRC-32, packed sizes),
and three parts packed by zlib: the lengths of the pre-tokens in bytes, their counts (both little-endian numbers of 64
bits), and their bytes, in the order of the bytes.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.files import whole_file
from bpe.text.special_tokens import check_special_tokens
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    import numpy as np

    from bpe.training.counts import PretokenCounts

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
    facts: dict[str, object] = {
        "pretokens": len(numbers),
        "pattern": counts.pattern,
        "crc32": [zlib.crc32(part) for part in parts],
        "packed": [len(part) for part in packed],
    }
    if counts.special_tokens is not None:
        facts["special_tokens"] = counts.special_tokens
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

    from bpe.training.counts import PretokenCounts

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
            packed, pattern = facts["packed"], facts["pattern"]
            # Sizes that the file does not have would be asked of the memory.
            room = source.stat().st_size - file.tell() if source.is_file() else sum(packed)
            if len(packed) != 3 or min(packed) < 0 or sum(packed) != room or not isinstance(pattern, str):
                raise ValueError(damaged)
            parts = [zlib.decompress(file.read(size)) for size in packed]
            whole = [zlib.crc32(part) for part in parts] == facts["crc32"] and not file.read(1)
            lengths, counts = (np.frombuffer(part, dtype="<i8").astype(np.int64) for part in parts[:2])
            words, number = np.frombuffer(parts[2], dtype=np.uint8), facts["pretokens"]
            special = facts.get("special_tokens")  # files of earlier versions do not know them
            special = None if special is None else check_special_tokens(special)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError, zlib.error) as error:
            raise ValueError(damaged) from error
    if not whole or not len(lengths) == len(counts) == number or (number and counts.min() < 1):
        raise ValueError(damaged)
    # The kernels trust the offsets: no length is so great that their sum passes 2**63 without being negative once.
    if number and not 1 <= lengths.min() <= lengths.max() <= len(words):
        raise ValueError(damaged)
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
    if offsets.min() < 0 or offsets[-1] != len(words):
        raise ValueError(damaged)
    return PretokenCounts.from_arrays(words, offsets, counts, pattern=pattern, special_tokens=special)
