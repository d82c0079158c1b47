"""The merges of a tokenizer, arranged for encoding: which two symbols become which, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

MISSING = -1


class RuleArrays(NamedTuple):
    """Merge rules for the kernels: an open-addressing table from a pair of symbols to a rank and a product."""

    keys: np.ndarray
    values: np.ndarray
    symbol_ids: np.ndarray


class MergeTable:
    """Merge rules over symbols: symbols 0-255 are the bytes, the others the parts and products of merges.

    Symbols are separate from token ids, because ids may be laid out in any way (GPT-2's bytes are not in byte order),
    while priority is the place in the list of merges.
    """

    def __init__(self, ids: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]) -> None:
        symbols = {bytes([byte]): byte for byte in range(256)}
        self.rules: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            for token in (left, right, left + right):
                symbols.setdefault(token, len(symbols))
            pair = (symbols[left], symbols[right])
            self.rules.setdefault(pair, (rank, symbols[left + right]))
        self.ids = [ids.get(token, MISSING) for token in symbols]

    @cached_property
    def arrays(self) -> RuleArrays:
        """The rules as arrays: keys and values uint64 (power of two,), ids int64 (symbols,)."""
        import numpy as np

        from bpe.kernels.encoding import build_rules

        pairs = np.array(list(self.rules), dtype=np.int64).reshape(-1, 2)
        outcomes = np.array(list(self.rules.values()), dtype=np.int64).reshape(-1, 2)
        keys, values = build_rules(pairs, outcomes)
        return RuleArrays(keys, values, np.array(self.ids, dtype=np.int64))
