"""Encoding pieces in plain Python: for short texts, and for other patterns than GPT-2's."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from bpe.text.patterns import split_pieces
from bpe.threads import map_in_order

if TYPE_CHECKING:
    from bpe.encoding.merge_rules import MergeTable

_MAX_CACHED = 1 << 16
_LONGEST_CACHED = 64
_KERNEL_BYTES = 1 << 17
"""A piece of so many bytes is worth loading a kernel for: merging it here takes 0.4 s."""
_DEAD = -1


class PieceEncoder:
    """Encodes text between special tokens, one pre-token at a time, remembering short ones (a bounded number)."""

    def __init__(self, table: MergeTable, pattern: str) -> None:
        self._table = table
        self._pattern = pattern
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text without special tokens.

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        ids: list[int] = []
        known = self._known
        for piece in split_pieces(self._pattern, text):
            found = known.get(piece)
            if found is None:
                found = self._encode_piece(piece.encode("utf-8"))
                if len(piece) <= _LONGEST_CACHED:
                    if len(known) >= _MAX_CACHED:
                        known.clear()
                    known[piece] = found
            ids += found
        return ids

    def _encode_piece(self, piece: bytes) -> list[int]:
        """Return the ids of one pre-token."""
        whole = self._table.whole_ids.get(piece)
        if whole is not None:
            return [whole]
        byte_symbols, vocab_size = self._table.byte_symbols, self._table.vocab_size
        if len(piece) >= _KERNEL_BYTES and self._table.fits_kernels:
            (ids,) = map_in_order(self._merge_with_kernel, [piece], 1)
        else:
            ids = merge_symbols([byte_symbols[byte] for byte in piece], self._table.rules)
        for id_ in ids:
            if id_ >= vocab_size:
                raise missing_byte_error(id_ - vocab_size)
        return ids

    def _merge_with_kernel(self, piece: bytes) -> list[int]:
        """Return the symbols that a long piece is merged to."""
        import numpy as np

        from bpe.kernels.merging.applying import SHORT
        from bpe.kernels.merging.long_pre_tokens import encode_long_piece
        from bpe.text.block_arrays import read_only

        rules = self._table.arrays
        room, out = np.empty((2, SHORT), dtype=np.int64), np.empty(len(piece), dtype=np.uint32)
        count = encode_long_piece(
            read_only(piece),
            0,
            len(piece),
            rules.byte_symbols,
            rules.symbol_sizes,
            room,
            rules.table,
            rules.products,
            out,
            0,
        )
        ids: list[int] = out[:count].tolist()
        return ids


def missing_byte_error(byte: int) -> ValueError:
    """Return the error for a byte that the vocabulary has no token for."""
    return ValueError(
        f"byte {bytes([byte])!r} is not in the vocabulary, expected all 256 bytes in it to encode any text; add it"
    )


def merge_symbols(symbols: list[int], rules: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Merge the pair of the lowest rank, the leftmost first, until none is left; changes `symbols`.

    Takes time proportional to n log n: a heap of ranks over linked symbols.
    """
    length = len(symbols)
    after = list(range(1, length + 1))
    before = list(range(-1, length - 1))
    heap: list[tuple[int, int, int, int]] = []

    def offer(left: int, right: int) -> None:
        rule = rules.get((symbols[left], symbols[right]))
        if rule is not None:
            heapq.heappush(heap, (rule[0], left, right, rule[1]))

    for index in range(length - 1):
        offer(index, index + 1)
    while heap:
        rank, left, right, product = heapq.heappop(heap)
        if after[left] != right or rules.get((symbols[left], symbols[right])) != (rank, product):
            continue  # one of the two has been merged with another one since
        symbols[left] = product
        symbols[right] = _DEAD
        following = after[left] = after[right]
        if following < length:
            before[following] = left
            offer(left, following)
        if before[left] >= 0:
            offer(before[left], left)
    return [symbol for symbol in symbols if symbol != _DEAD]
