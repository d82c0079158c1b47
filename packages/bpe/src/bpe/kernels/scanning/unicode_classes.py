"""Character classes of all patterns for every code point, as the installed `regex` defines them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

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

    The table is built by `regex` itself, so that both follow the same Unicode version: LETTER is \p{L}, NUMBER is
    \p{N}, SPACE is \s (Unicode White_Space, which differs from Python's `str.isspace`), OTHER is the rest. UPPER is
    \p{Lu} and \p{Lt}, LOWER is \p{Ll}, MARK is \p{M}, SYMBOL is \p{P} and \p{S}.
    """
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
