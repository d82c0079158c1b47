"""Encoding blocks of UTF-8 with the kernels."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpe.block_arrays import arrays_of
from bpe.kernels.counting import move_entries
from bpe.kernels.encoding import CACHE_FULL, MISSING_BYTE, ROOM, Cache, encode_spans
from bpe.kernels.piece_merging import SHORT
from bpe.piece_encoding import missing_byte_error
from bpe.unicode_classes import class_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bpe.blocks import Block
    from bpe.merge_table import MergeTable
    from bpe.special_tokens import SpecialTokenFinder

FIRST_CACHED, MOST_CACHED = 1 << 14, 1 << 20
"""Pieces that a thread has room for at first and at most: 56 bytes each, 56 MiB in all."""


class EncodedBlock(NamedTuple):
    """The ids of a block, and what became of its bytes."""

    ids: np.ndarray
    """uint16 or uint32, shape (tokens,)."""
    ends: np.ndarray
    """The number of ids up to and with each span of the block: int64, shape (spans,)."""
    bytes: int
    """Bytes encoded, after malformed UTF-8 was replaced."""
    replaced: int
    """U+FFFD put in for malformed UTF-8."""


class _Worker:
    """What one thread remembers and works with."""

    def __init__(self) -> None:
        self.cache = _new_cache(FIRST_CACHED)
        self.out = np.empty(0, dtype=np.uint32)

    def room_for(self, tokens: int) -> np.ndarray:
        """Return an array for so many ids."""
        if len(self.out) < tokens:
            self.out = np.empty(tokens + tokens // 4, dtype=np.uint32)
        return self.out

    def grow(self) -> None:
        """Make the cache twice as large."""
        old = self.cache
        larger = _new_cache(len(old.table) // 2)
        move_entries(old.table, larger.table)
        larger.many_ids[: old.used[1]] = old.many_ids[: old.used[1]]
        larger.long_bytes[: old.used[2]] = old.long_bytes[: old.used[2]]
        larger.used[:] = old.used
        self.cache = larger

    def may_grow(self) -> bool:
        """Say whether the cache may still be made larger."""
        return len(self.cache.table) < 4 * MOST_CACHED


def _new_cache(capacity: int) -> Cache:
    """Return an empty cache for three quarters of `capacity` pieces."""
    return Cache(
        np.zeros(4 * capacity, dtype=np.uint64),
        np.empty(2 * capacity, dtype=np.uint32),
        np.empty(16 * capacity, dtype=np.uint8),
        np.zeros(3, dtype=np.int64),
        np.empty((2, SHORT), dtype=np.int64),
    )


class BlockEncoder:
    """Encodes blocks with GPT-2's pattern; several threads may use it at once, each with a cache of its own."""

    def __init__(
        self, table: MergeTable, finder: SpecialTokenFinder, special_ids: Sequence[int], id_dtype: str
    ) -> None:
        self._rules = table.arrays
        self._finder = finder
        # The last entry is for index -1: a border between two texts.
        self._special_ids = np.array([*special_ids, -1], dtype=np.int64)
        self._id_dtype = id_dtype
        self._idle: SimpleQueue[_Worker] = SimpleQueue()

    def encode(self, block: Block) -> EncodedBlock:
        """Encode a block.

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        data, spans, replaced = arrays_of(block, self._finder)
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = _Worker()
        out = worker.room_for(len(data) + len(spans) + ROOM)
        progress = np.zeros(3, dtype=np.int64)
        ends = np.empty(len(spans), dtype=np.int64)
        while True:
            state = encode_spans(
                data,
                spans,
                self._special_ids,
                class_table(),
                self._rules,
                worker.cache,
                worker.may_grow(),
                progress,
                ends,
                out,
            )
            if state != CACHE_FULL:
                break
            worker.grow()
        ids = out[: progress[2]].astype(self._id_dtype)
        self._idle.put(worker)
        if state == MISSING_BYTE:
            known = self._rules.symbol_ids[:256]
            raise missing_byte_error(next(byte for byte in data[progress[1] :].tolist() if known[byte] < 0))
        return EncodedBlock(ids, ends, len(data), replaced)
