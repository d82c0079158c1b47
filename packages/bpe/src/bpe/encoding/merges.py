"""The merges of a tokenizer, arranged for encoding by ids."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    from bpe.kernels.merging.long_pretokens import MergeArrays


class Merges:
    """Merges over symbols, which are token ids; the rank of a merge is its index in the list of merges.

    Bytes without an id have symbols above all ids. No merge applies to them, so they remain in the result, where they
    are recognized.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        single = (bytes([byte]) for byte in range(256))
        self.byte_symbols = [spec.ids.get(token, spec.vocab_size + token[0]) for token in single]
        self.vocab_size = spec.vocab_size
        self._ids = spec.ids
        self._merge_ids = spec.merge_ids
        self.whole_ids = spec.whole_ids
        """Pre-tokens that become a token without merging."""

    @cached_property
    def ranks(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The rank and the resulting symbol of each pair of symbols with a merge; of equal pairs the first counts."""
        ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right, merged) in enumerate(zip(*self._merge_ids, strict=True)):
            ranks.setdefault((left, right), (rank, merged))
        return ranks

    @property
    def fit_kernels(self) -> bool:
        """Return whether the merges of the kernels have enough bits for every symbol and every rank."""
        from bpe.kernels.merging.applying import RANK_BITS, SYMBOL_BITS

        return self.vocab_size + 256 < 1 << SYMBOL_BITS and len(self._merge_ids[0]) < 1 << RANK_BITS

    @cached_property
    def arrays(self) -> MergeArrays:
        """The merges as arrays for the kernels."""
        import numpy as np

        from bpe.kernels.merging.applying import byte_rank_table, rank_table
        from bpe.kernels.merging.long_pretokens import MergeArrays
        from bpe.kernels.tables.pretokens import PretokenTable

        lefts, rights, merged = self._merge_ids
        sizes = np.ones(self.vocab_size + 256, dtype=np.int32)
        sizes[list(self._ids.values())] = list(map(len, self._ids))
        whole = PretokenTable(16, 16)
        if self.whole_ids:
            pretokens = list(self.whole_ids)
            offsets = np.cumsum([0, *map(len, pretokens)])
            ids = np.fromiter(self.whole_ids.values(), dtype=np.int64, count=len(pretokens))
            whole.add(np.frombuffer(b"".join(pretokens), dtype=np.uint8), offsets, ids)
        left_ids, right_ids = np.array(lefts, dtype=np.int64), np.array(rights, dtype=np.int64)
        byte_symbols = np.array(self.byte_symbols, dtype=np.int64)
        return MergeArrays(
            rank_table(left_ids, right_ids),
            np.array(merged, dtype=np.int32),
            byte_symbols,
            byte_rank_table(left_ids, right_ids, byte_symbols),
            sizes,
            self.vocab_size,
            whole.table if self.whole_ids else np.empty(0, dtype=np.uint64),
            whole.arena,
        )
