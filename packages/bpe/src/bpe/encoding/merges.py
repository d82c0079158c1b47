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
        self._spec = spec
        self._packed = spec.packed
        self.vocab_size = spec.vocab_size

    @cached_property
    def byte_symbols(self) -> list[int]:
        """The symbol of each byte."""
        if self._packed is not None:
            symbols: list[int] = self._packed.symbols(self.vocab_size).tolist()
            return symbols
        single = (bytes([byte]) for byte in range(256))
        return [self._spec.ids.get(token, self.vocab_size + token[0]) for token in single]

    @cached_property
    def whole_ids(self) -> dict[bytes, int]:
        """Pre-tokens that become a token without merging."""
        return self._spec.whole_ids

    @cached_property
    def ranks(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The rank and the resulting symbol of each pair of symbols with a merge; of equal pairs the first counts."""
        merge_ids = self._spec.merge_ids if self._packed is None else map(list, self._packed.merge_ids)
        ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right, merged) in enumerate(zip(*merge_ids, strict=True)):
            ranks.setdefault((left, right), (rank, merged))
        return ranks

    @property
    def has_ranks(self) -> bool:
        """True if `ranks` exist already."""
        return "ranks" in vars(self)

    @property
    def _count(self) -> int:
        """The number of merges."""
        return len(self._spec.merges if self._packed is None else self._packed.merge_ids[0])

    @property
    def fit_kernels(self) -> bool:
        """Return whether the merges of the kernels have enough bits for every symbol and every rank."""
        from bpe.kernels.merging.applying import RANK_BITS, SYMBOL_BITS

        return self.vocab_size + 256 < 1 << SYMBOL_BITS and self._count < 1 << RANK_BITS

    @cached_property
    def arrays(self) -> MergeArrays:
        """The merges as arrays for the kernels."""
        import numpy as np

        from bpe.kernels.merging.applying import byte_rank_table, rank_table
        from bpe.kernels.merging.long_pretokens import MergeArrays
        from bpe.kernels.tables.pretokens import PretokenTable

        sizes = np.ones(self.vocab_size + 256, dtype=np.int32)
        whole = PretokenTable(16, 16)
        if self._packed is not None:
            left_ids, right_ids, merged = self._packed.merge_ids
            ranks = self._packed.ranks
            sizes[self._packed.ids] = np.diff(self._packed.offsets)
            whole = self._packed.table
        else:
            left_ids, right_ids, merged = (np.array(ids, dtype=np.int64) for ids in self._spec.merge_ids)
            ranks = rank_table(left_ids, right_ids)
            sizes[list(self._spec.ids.values())] = list(map(len, self._spec.ids))
            pretokens = list(self.whole_ids)
            ids = np.fromiter(self.whole_ids.values(), dtype=np.int64, count=len(pretokens))
            offsets = np.cumsum([0, *map(len, pretokens)])
            whole.add(np.frombuffer(b"".join(pretokens), dtype=np.uint8), offsets, ids)
        byte_symbols = np.array(self.byte_symbols, dtype=np.int64)
        return MergeArrays(
            ranks,
            merged.astype(np.int32),
            int(merged[0]) if len(merged) and (np.diff(merged) == 1).all() else -1,
            byte_symbols,
            byte_rank_table(left_ids, right_ids, byte_symbols),
            sizes,
            self.vocab_size,
            whole.table if self._spec.ignore_merges else np.empty(0, dtype=np.uint64),
            whole.arena,
        )
