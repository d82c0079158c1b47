"""The merges of a tokenizer, arranged for encoding: which two symbols become which, and in what order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpe.kernels.merging.encoding import Rules


class MergeTable:
    """Merge rules over symbols, which are token ids; priority is the place in the list of merges.

    Bytes without an id have symbols above all ids: merging leaves them as they are, and what is left of them shows.
    """

    def __init__(
        self,
        ids: Mapping[bytes, int],
        merges: tuple[list[int], list[int], list[int]],
        vocab_size: int,
        *,
        ignore_merges: bool = False,
    ) -> None:
        """Take the id of each token, and the ids of the left and right part and the product of each merge."""
        single = (bytes([byte]) for byte in range(256))
        self.byte_symbols = [ids.get(token, vocab_size + token[0]) for token in single]
        self.vocab_size = vocab_size
        self._ids = ids
        self._merges = merges
        # With ignored merges, pieces that are tokens need none: those that merging would make anyway, and the others.
        self.whole_ids = ids if ignore_merges else {}

    @cached_property
    def rules(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The rank and the product of each pair of symbols that can be merged."""
        rules: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right, product) in enumerate(zip(*self._merges, strict=True)):
            rules.setdefault((left, right), (rank, product))
        return rules

    @property
    def fits_kernels(self) -> bool:
        """Whether a rule of the kernels has bits enough for every symbol and every rank."""
        from bpe.kernels.merging.applying import RANK_BITS, SYMBOL_BITS

        return self.vocab_size + 256 < 1 << SYMBOL_BITS and len(self._merges[0]) < 1 << RANK_BITS

    @cached_property
    def arrays(self) -> Rules:
        """The rules as arrays for the kernels."""
        import numpy as np

        from bpe.kernels.merging.applying import build_rules
        from bpe.kernels.merging.encoding import Rules
        from bpe.training.word_table import WordTable

        lefts, rights, products = self._merges
        sizes = np.ones(self.vocab_size + 256, dtype=np.int32)
        sizes[list(self._ids.values())] = list(map(len, self._ids))
        whole = WordTable(16, 16)
        if self.whole_ids:
            pieces = list(self.whole_ids)
            offsets = np.cumsum([0, *map(len, pieces)])
            ids = np.fromiter(self.whole_ids.values(), dtype=np.int64, count=len(pieces))
            whole.add(np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets, ids)
        return Rules(
            build_rules(np.array(lefts, dtype=np.int64), np.array(rights, dtype=np.int64)),
            np.array(products, dtype=np.int32),
            np.array(self.byte_symbols, dtype=np.int64),
            sizes,
            self.vocab_size,
            whole.table if self.whole_ids else np.empty(0, dtype=np.uint64),
            whole.arena,
        )
