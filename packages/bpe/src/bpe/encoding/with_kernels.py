"""Encoding blocks of UTF-8 with the kernels."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpe.encoding.in_python import missing_byte_error
from bpe.kernels.merging.applying import SHORT
from bpe.kernels.merging.encoding import CACHE_FULL, MISSING_BYTE, ROOM, Cache, encode_spans, move_cache
from bpe.text.block_arrays import arrays_of
from bpe.text.unicode_classes import class_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bpe.encoding.merge_rules import MergeTable
    from bpe.text.blocks import Block
    from bpe.text.patterns import Scanner
    from bpe.text.special_tokens import SpecialTokenFinder

FIRST_CACHED, MOST_CACHED = 1 << 14, 1 << 20
"""Pieces that a tokenizer has room for at first and at most, a quarter of it free: 56 bytes each, 56 MiB in all."""


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


class _Room:
    """What one thread works with."""

    def __init__(self) -> None:
        self.merging = np.empty((2, SHORT), dtype=np.int64)
        self._out = np.empty(0, dtype=np.uint32)

    def out(self, tokens: int) -> np.ndarray:
        """Return an array for so many ids."""
        if len(self._out) < tokens:
            self._out = np.empty(tokens + tokens // 4, dtype=np.uint32)
        return self._out


def _new_cache(capacity: int) -> Cache:
    """Return an empty cache for three quarters of `capacity` pieces."""
    return Cache(
        np.zeros(4 * capacity, dtype=np.uint64),
        np.empty(2 * capacity, dtype=np.uint32),
        np.empty(16 * capacity, dtype=np.uint8),
        np.zeros(3, dtype=np.int64),
    )


class BlockEncoder:
    """Encodes blocks; several threads may use it at once, and share what they learn."""

    def __init__(
        self,
        table: MergeTable,
        finder: SpecialTokenFinder,
        special_ids: Sequence[int],
        *,
        scanner: Scanner,
        id_dtype: str,
    ) -> None:
        self._rules = table.arrays
        self._finder = finder
        # The last entry is for index -1: a border between two texts.
        self._special_ids = np.array([*special_ids, -1], dtype=np.int64)
        self._scanner = scanner
        self._id_dtype = id_dtype
        self._cache = _new_cache(FIRST_CACHED)
        self._replacing = Lock()
        self._idle: SimpleQueue[_Room] = SimpleQueue()

    def encode(self, block: Block) -> EncodedBlock:
        """Encode a block.

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        data, spans, replaced = arrays_of(block, self._finder)
        try:
            room = self._idle.get_nowait()
        except Empty:
            room = _Room()
        out = room.out(len(data) + len(spans) + ROOM)
        progress = np.zeros(3, dtype=np.int64)
        ends = np.empty(len(spans), dtype=np.int64)
        state = CACHE_FULL
        cache = self._cache
        while state == CACHE_FULL:
            state = encode_spans(
                data,
                spans,
                self._special_ids,
                self._scanner,
                class_table(),
                self._rules,
                cache,
                room.merging,
                progress,
                ends,
                out,
            )
            if state == CACHE_FULL:
                cache = self._instead_of(cache)
        ids = out[: progress[2]].astype(self._id_dtype)
        self._idle.put(room)
        if state == MISSING_BYTE:
            symbols = self._rules.byte_symbols
            raise missing_byte_error(
                next(byte for byte in data[progress[1] :].tolist() if symbols[byte] >= self._rules.vocab_size)
            )
        return EncodedBlock(ids, ends, len(data), replaced)

    def _instead_of(self, full: Cache) -> Cache:
        """Return a cache to go on with: that of another thread, one twice as large, or at last an empty one.

        Threads that are still using the old one may go on with it to the end of their block.
        """
        with self._replacing:
            if self._cache is full:
                capacity = len(full.table) // 4
                new = _new_cache(min(2 * capacity, MOST_CACHED))
                if capacity < MOST_CACHED:
                    move_cache(full, new)
                self._cache = new
            return self._cache
