"""The compiled kernels, and the sizes from which loading them pays off.

Importing the kernels takes some 20 ms with ready machine code. Otherwise it imports Numba and loads their machine code
from its disk cache, which takes about half a second (the first time they are compiled, which takes half a minute). The
modules below are therefore imported where they are called:
`machine` compiles, `scanning` splits UTF-8 text, `tables` count, and `merging` learns and applies merges. Nothing here
imports other parts of the package.
"""

from __future__ import annotations

import sys

# Sizes for `pay_off`: a sixteenth counts if the machine code is ready.
COUNTING_BYTES = 1 << 20
"""Texts up to this size are counted in Python."""

LEARNING_BYTES = 1 << 18
"""Merges are learned in Python from distinct pre-tokens up to this size."""

ENCODING_BYTES = 1 << 20
"""A text above this size is encoded by the kernels, even if the process has not loaded them."""

ENCODING_BYTES_IN_TOTAL = 8 << 20
"""After so many bytes of shorter texts, a tokenizer loads the kernels, too."""

SMALL_TEXT_BYTES = 1 << 16
"""Texts up to this size are neither split among threads nor worth the tables of the kernels."""

CALL_BYTES = 32
"""A text up to this size takes less time in Python than the call of a kernel."""

CALLS = 2000
"""So many calls of a kernel take as much time as the dictionary of merges that encoding in Python needs."""

LONG_PRETOKEN_BYTES = 1 << 17
"""A single pre-token of this size is merged by a kernel; merging it in Python takes 0.4 s."""


def pay_off(size: int, limit: int) -> bool:
    """Return whether to use kernels for a text of so many bytes, where `limit` is one of the sizes above."""
    return size > limit or (size > limit >> 4 and are_ready())


def are_ready() -> bool:
    """Return whether the machine code of the kernels is ready, without Numba."""
    from bpe.kernels.machine.compiling import COMPILED, NUMBA

    return COMPILED and not NUMBA


def learning_loaded() -> bool:
    """Return whether this process has loaded the kernels that count pre-tokens and learn merges."""
    return "bpe.kernels.tables.pretokens" in sys.modules


def encoding_loaded() -> bool:
    """Return whether this process has loaded the kernels that encode."""
    return "bpe.kernels.merging.encoding" in sys.modules
