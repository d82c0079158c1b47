"""The merges of a tokenizer, arranged for encoding: which two symbols become which, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpe.kernels.encoding import Rules

MISSING = -1


class MergeTable:
    """Merge rules over symbols: symbols 0-255 are the bytes, the others the parts and products of merges.

    Symbols are separate from token ids, because ids may be laid out in any way (GPT-2's bytes are not in byte order),
    while priority is the place in the list of merges.
    """

    def __init__(
        self, ids: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]], *, ignore_merges: bool = False
    ) -> None:
        symbols = {bytes([byte]): byte for byte in range(256)}
        self.merges: list[tuple[int, int, int]] = []
        self.rules: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            product = left + right
            for token in (left, right, product):
                if token not in symbols:
                    symbols[token] = len(symbols)
            pair = (symbols[left], symbols[right])
            self.merges.append((*pair, symbols[product]))
            self.rules.setdefault(pair, (rank, symbols[product]))
        self.ids = [ids.get(token, MISSING) for token in symbols]
        # With ignored merges, pieces that are tokens need none: those that merging would make anyway, and the others.
        self.whole_ids = dict(ids) if ignore_merges else {}

    @cached_property
    def arrays(self) -> Rules:
        """The rules as arrays for the kernels.

        Raises:
            ValueError: If there are more merges or symbols than a rule has bits for.
        """
        import numpy as np

        from bpe.kernels.encoding import Rules
        from bpe.kernels.piece_merging import RANK_BITS, SYMBOL_BITS, build_rules
        from bpe.word_table import WordTable

        if len(self.ids) >= 1 << SYMBOL_BITS or len(self.merges) >= 1 << RANK_BITS:
            raise ValueError(f"{len(self.merges):,} merges, expected fewer than {1 << SYMBOL_BITS:,}; use fewer")
        whole = WordTable(16, 16)
        if self.whole_ids:
            pieces = list(self.whole_ids)
            offsets = np.cumsum([0, *map(len, pieces)])
            ids = np.fromiter(self.whole_ids.values(), dtype=np.int64, count=len(pieces))
            whole.add(np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets, ids)
        return Rules(
            build_rules(np.array(self.merges, dtype=np.int64).reshape(-1, 3)[:, :2].copy()),
            np.array([product for _, _, product in self.merges], dtype=np.int32),
            np.array(self.ids, dtype=np.int64),
            whole.table if self.whole_ids else np.empty(0, dtype=np.uint64),
            whole.arena,
        )
