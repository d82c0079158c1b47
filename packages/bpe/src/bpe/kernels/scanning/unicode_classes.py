"""Character classes of all patterns for every code point, as the installed `regex` defines them."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.kernels.machine.machine_code import FOLDER, HEADER_BYTES, checked_header

if TYPE_CHECKING:
    import numpy as np

OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3

KIND = 0b11
"""The bits of a class that hold one of the four values above."""

UPPER, LOWER, MARK, SYMBOL, CJK = 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
"""Bits of a class; a letter that is neither UPPER nor LOWER has no case."""

_CJK = "\u4e00-\u9fa5\u3040-\u30ff"
"""The characters that DeepSeek's pattern splits off first."""

_CLASSES = {
    r"[\p{Cn}\p{Co}]": OTHER,  # unassigned and private: most code points, so this comes first
    r"[\p{Lm}\p{Lo}]": LETTER,
    r"[\p{Lu}\p{Lt}]": LETTER | UPPER,
    r"\p{Ll}": LETTER | LOWER,
    r"\p{N}": NUMBER,
    r"\s": SPACE,
    r"\p{M}": OTHER | MARK,
    r"[\p{P}\p{S}]": OTHER | SYMBOL,
}

_FIRST_SURROGATE, _LAST_SURROGATE, _CODE_POINTS = 0xD800, 0xDFFF, 0x110000


@lru_cache(maxsize=1)
def class_table() -> np.ndarray:
    r"""Return the class of each code point: uint8, shape (0x110000,), read-only.

    LETTER is \p{L}, NUMBER is \p{N}, SPACE is \s (Unicode White_Space, which differs from Python's `str.isspace`) and
    OTHER is the rest. UPPER is \p{Lu} and \p{Lt}, LOWER is \p{Ll}, MARK is \p{M}, SYMBOL is \p{P} and \p{S}. All are as
    the installed `regex` defines them, so that both follow the same Unicode version.
    """
    import numpy as np

    path = FOLDER / "unicode-classes.bin"
    try:
        content = path.read_bytes()
        stored_version = checked_header(path, content)["version"]
    except (OSError, ValueError):
        stored_version = None
    if stored_version != classes_version():
        return class_table_by_regex()
    runs = np.frombuffer(content, dtype="<u4", offset=HEADER_BYTES)
    starts, classes = runs >> 8, (runs & 0xFF).astype(np.uint8)
    table = np.repeat(classes, np.diff(starts, append=_CODE_POINTS))
    table.flags.writeable = False
    return table


def runs_of(table: np.ndarray) -> bytes:
    """Return a table of classes in the form in which it is stored: for each run its start in 24 bits and its class."""
    import numpy as np

    starts = np.flatnonzero(np.diff(table.astype(np.int64), prepend=-1))
    return (starts << 8 | table[starts]).astype("<u4").tobytes()


def classes_version() -> str:
    """Return the version of Unicode that the installed `regex` follows, without importing it.

    Its metadata says so, as in "supports Unicode 18.0.0". Otherwise the result is its own version, or "" without
    metadata.
    """
    spec = find_spec("regex")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).parent.glob("regex-*.dist-info")]
    if len(found) != 1:
        return ""
    with suppress(OSError):
        unicode = re.search(rb"supports (Unicode \d+(\.\d+)+)", (found[0] / "METADATA").read_bytes())
        if unicode:
            return unicode[1].decode("ascii")
    return found[0].name.removesuffix(".dist-info")


def class_table_by_regex() -> np.ndarray:
    """Return the table of `class_table` as `regex` itself finds it, which takes some 30 ms."""
    import numpy as np
    import regex

    surrogates = _LAST_SURROGATE + 1 - _FIRST_SURROGATE
    # One string of all characters, so that `regex` reports a few thousand runs instead of a million characters.
    code_points = np.arange(_CODE_POINTS - surrogates, dtype="<u4")
    code_points[_FIRST_SURROGATE:] += surrogates
    characters = code_points.tobytes().decode("utf-32-le")
    table = np.zeros(_CODE_POINTS, dtype=np.uint8)
    classes = list(_CLASSES.values())
    for match in regex.finditer("|".join(f"({pattern}+)" for pattern in _CLASSES), characters):
        start, end = code_points[match.start()], code_points[match.end() - 1]
        table[start : end + 1] = classes[match.lastindex - 1]
    # A run that continues across the surrogates would have covered them.
    table[_FIRST_SURROGATE : _LAST_SURROGATE + 1] = OTHER
    for start, end in regex.findall("(.)-(.)", _CJK):
        table[ord(start) : ord(end) + 1] |= CJK
    table.flags.writeable = False
    return table
