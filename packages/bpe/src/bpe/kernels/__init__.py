"""The compiled kernels, and the sizes from which loading them pays off.

Importing a kernel imports Numba and loads its machine code from the disk cache, which takes about half a second (the
first time it is compiled, which takes about ten). The modules below are therefore imported where they are called:
`machine` compiles, `scanning` splits UTF-8 text, `tables` count, and `merging` learns and applies merges. Nothing here
imports other parts of the package.
"""

from __future__ import annotations

import sys

COUNTING_BYTES = 1 << 20
"""Texts up to this size are counted in Python."""

LEARNING_BYTES = 1 << 18
"""Merges are learned in Python from distinct pre-tokens up to this size."""

ENCODING_BYTES = 1 << 20
"""A text of this size is encoded by the kernels, even if the process has not loaded them."""

ENCODING_BYTES_IN_TOTAL = 8 << 20
"""After so many bytes of shorter texts, a tokenizer loads the kernels, too."""

SMALL_TEXT_BYTES = 1 << 16
"""Texts up to this size are neither split among threads nor worth the tables of the kernels."""

LONG_PRETOKEN_BYTES = 1 << 17
"""A single pre-token of this size is merged by a kernel; merging it in Python takes 0.4 s."""


def learning_loaded() -> bool:
    """Return whether this process has loaded the kernels that count pre-tokens and learn merges."""
    return "bpe.kernels.tables.pretokens" in sys.modules


def encoding_loaded() -> bool:
    """Return whether this process has loaded the kernels that encode."""
    return "bpe.kernels.merging.encoding" in sys.modules
