"""Character classes of GPT-2's pattern for every code point, as the installed `regex` defines them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3

_FIRST_SURROGATE, _LAST_SURROGATE, _CODE_POINTS = 0xD800, 0xDFFF, 0x110000


@lru_cache(maxsize=1)
def class_table() -> np.ndarray:
    r"""Return the class of each code point: uint8, shape (0x110000,), read-only.

    The table is built by `regex` itself, so that both follow the same Unicode version: LETTER is \p{L}, NUMBER is
    \p{N}, SPACE is \s (Unicode White_Space, which differs from Python's `str.isspace`), OTHER is the rest.
    """
    import numpy as np
    import regex

    surrogates = _LAST_SURROGATE + 1 - _FIRST_SURROGATE
    # One string of all characters, so that `regex` reports a few hundred runs instead of a million characters.
    code_points = np.arange(_CODE_POINTS - surrogates, dtype="<u4")
    code_points[_FIRST_SURROGATE:] += surrogates
    characters = code_points.tobytes().decode("utf-32-le")
    table = np.zeros(_CODE_POINTS, dtype=np.uint8)
    for match in regex.finditer(r"(\p{L}+)|(\p{N}+)|(\s+)", characters):
        start, end = code_points[match.start()], code_points[match.end() - 1]
        table[start : end + 1] = match.lastindex
    # A run that continues across the surrogates would have covered them.
    table[_FIRST_SURROGATE : _LAST_SURROGATE + 1] = OTHER
    table.flags.writeable = False
    return table
