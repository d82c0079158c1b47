"""Encoding of blocks of UTF-8 by the kernels."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpe.encoding.in_python import missing_byte_error
from bpe.kernels.machine.arrays import zeros
from bpe.kernels.machine.compiling import structure
from bpe.kernels.merging.cache import EXTRA_IDS, LONGEST_RECORD, Cache, move_cache
from bpe.kernels.merging.encoding import BUFFER_FULL, CACHE_FULL, MISSING_BYTE, encode_spans, encoding_buffers
from bpe.kernels.scanning.unicode_classes import class_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bpe.encoding.merges import Merges
    from bpe.text import Block, Scanner, SpecialTokenFinder

FIRST_CACHED, MOST_CACHED = 1 << 14, 1 << 20
"""Slots of the cache of a tokenizer at first and at most: 64 bytes each with their records, 64 MiB in total."""


class EncodedBlock(NamedTuple):
    """The ids of a block, and statistics of its bytes."""

    ids: np.ndarray
    """uint16 or uint32, shape (tokens,)."""
    ends: np.ndarray
    """The number of ids up to and including each span of the block: int64, shape (spans,)."""
    bytes: int
    """Number of bytes encoded, after the replacement of malformed UTF-8."""
    replaced: int
    """Number of malformed sequences replaced by U+FFFD."""


class _Buffers:
    """The working memory of one thread."""

    def __init__(self) -> None:
        self.argument = structure(encoding_buffers())
        self._out = np.empty(0, dtype=np.uint32)

    def out(self, tokens: int) -> np.ndarray:
        """Return an array of at least `tokens` elements."""
        if len(self._out) < tokens:
            self._out = zeros(tokens + tokens // 4, "uint32")
        return self._out


class _SharedCache:
    """A cache with `capacity` slots, empty at first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        records = zeros(8 * capacity + LONGEST_RECORD, "uint32")
        table = zeros(4 * capacity, "uint64", at_once=True)
        self._used = np.zeros(2, dtype=np.int64)
        self.argument = structure(Cache(table, records, records.view(np.uint8), self._used))

    def used(self) -> int:
        """Return the number of entries."""
        return int(self._used[0])


class BlockEncoder:
    """Encodes blocks; several threads may use it at once and share its cache."""

    def __init__(
        self,
        merges: Merges,
        finder: SpecialTokenFinder,
        special_ids: Sequence[int],
        *,
        scanner: Scanner,
        id_dtype: str,
    ) -> None:
        self._merges = merges.arrays
        self._merges_argument = structure(self._merges)
        self._finder = finder
        # The last entry is for index -1: a boundary between two texts.
        self._special_ids = np.array([*special_ids, -1], dtype=np.int64)
        self._scanner = scanner
        self._id_dtype = id_dtype
        self._cache = _SharedCache(FIRST_CACHED)
        self._replacing = Lock()
        self._idle: SimpleQueue[_Buffers] = SimpleQueue()

    def entries(self) -> int:
        """Return the number of pre-tokens in the cache."""
        return self._cache.used()

    def make_space(self, entries: int, done: int, size: int) -> None:
        """Enlarge the cache to twice what a text of `size` bytes will need, instead of again and again.

        Its first `done` bytes have increased the number of entries from `entries` to the present one. The number of
        different pre-tokens grows about like a power of the bytes, with an exponent of 0.62 in English web text.
        """
        cache = self._cache
        expected = entries + int((cache.used() - entries) * (size / done) ** 0.6)
        wanted = min(1 << (2 * expected).bit_length(), MOST_CACHED)
        if wanted > cache.capacity:
            self._replacement_of(cache, wanted)

    def encode(self, block: Block, space: np.ndarray | None = None) -> EncodedBlock:
        """Encode a block; the ids are written into `space` if they fit, and otherwise into an array of their own.

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        data, spans, replaced = block.arrays(self._finder)
        try:
            buffers = self._idle.get_nowait()
        except Empty:
            buffers = _Buffers()
        out = buffers.out(len(data) + len(spans) + EXTRA_IDS)
        progress = np.zeros(4, dtype=np.int64)
        ends = np.empty(len(spans), dtype=np.int64)
        cache = self._cache
        while True:
            state = encode_spans(
                data,
                spans,
                self._special_ids,
                self._scanner,
                class_table(),
                self._merges_argument,
                cache.argument,
                buffers.argument,
                progress,
                ends,
                out,
            )
            if state == CACHE_FULL:
                cache = self._replacement_of(cache)
            elif state == BUFFER_FULL:
                buffers.argument = structure(encoding_buffers(2 * int(progress[3])))
            else:
                break
        number = int(progress[2])
        if space is not None and number <= len(space):
            ids = space[:number]
            ids[:] = out[:number]
        else:
            ids = out[:number].astype(self._id_dtype)
        self._idle.put(buffers)
        if state == MISSING_BYTE:
            symbols = self._merges.byte_symbols
            raise missing_byte_error(
                next(byte for byte in data[progress[1] :].tolist() if symbols[byte] >= self._merges.vocab_size)
            )
        return EncodedBlock(ids, ends, len(data), replaced)

    def _replacement_of(self, full: _SharedCache, capacity: int = 0) -> _SharedCache:
        """Return a cache with space: one made by another thread, one twice as large, or finally an empty one.

        Threads that use the old cache may continue with it to the end of their block.
        """
        with self._replacing:
            if self._cache is full:
                new = _SharedCache(min(max(2 * full.capacity, capacity), MOST_CACHED))
                if full.capacity < MOST_CACHED:
                    move_cache(full.argument, new.argument)
                self._cache = new
            return self._cache
