"""Encoding blocks of UTF-8 with the kernels."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from bpe.kernels.encoding import encode_segments
from bpe.piece_encoding import missing_byte_error
from bpe.unicode_classes import class_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bpe.merge_table import MergeTable
    from bpe.texts import Block

_CACHE_ENTRIES = 1 << 17
_CACHED_IDS = 1 << 19
_CACHED_BYTES = 1 << 21


class _Cache:
    """What one thread remembers: pieces and their ids, about 8 MB."""

    def __init__(self) -> None:
        self.table = np.zeros((_CACHE_ENTRIES, 4), dtype=np.uint64)
        self.many_ids = np.empty(_CACHED_IDS, dtype=np.uint32)
        self.long_bytes = np.empty(_CACHED_BYTES, dtype=np.uint8)
        self.state = np.zeros(3, dtype=np.int64)


class BlockEncoder:
    """Encodes blocks with GPT-2's pattern; several threads may use it at once, each with a cache of its own."""

    def __init__(self, table: MergeTable, special_ids: Sequence[int]) -> None:
        self._rules = table.arrays
        # The last entry is for index -1: no special token.
        self._special_ids = np.array([*special_ids, -1], dtype=np.int64)
        self._idle: SimpleQueue[_Cache] = SimpleQueue()

    def encode(self, block: Block) -> np.ndarray:
        """Return the token ids of a block: uint32, shape (tokens,).

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        try:
            cache = self._idle.get_nowait()
        except Empty:
            cache = _Cache()
        data = np.frombuffer(block.data, dtype=np.uint8)
        out = np.empty(len(data), dtype=np.uint32)
        starts, ends, following = block.segments()
        written = encode_segments(
            data,
            starts,
            ends,
            self._special_ids[following],
            class_table(),
            *self._rules,
            cache.table,
            cache.many_ids,
            cache.long_bytes,
            cache.state,
            out,
        )
        self._idle.put(cache)
        if written < 0:
            known = self._rules.symbol_ids[:256]
            raise missing_byte_error(next(byte for byte in block.data[-1 - written :] if known[byte] < 0))
        return out[:written].copy()
