"""Encoding of pre-tokens in plain Python: for short texts, and for patterns that the kernels do not know."""

from __future__ import annotations

import heapq

from bpe.encoding.merges import Merges
from bpe.kernels import LONG_PRETOKEN_BYTES
from bpe.text import Pattern, from_characters, split_pretokens, to_characters
from bpe.threads import map_in_order

_MAX_CACHED = 1 << 16
_LONGEST_CACHED = 64
_DEAD = -1


class PretokenEncoder:
    """Encodes text between special tokens, one pre-token at a time, with a bounded cache of short ones."""

    def __init__(self, merges: Merges, pattern: Pattern, byte_pattern: tuple[str, ...] = ()) -> None:
        self._merges = merges
        self._pattern = pattern
        self._byte_pattern = byte_pattern
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text without special tokens.

        Raises:
            ValueError: If the text has a byte that the vocabulary has no token for.
        """
        ids: list[int] = []
        cache = self._cache
        for pretoken in split_pretokens(self._pattern, text):
            found = cache.get(pretoken)
            if found is None:
                found = self.encode_pretoken(pretoken.encode("utf-8"), self._byte_pattern)
                if len(pretoken) <= _LONGEST_CACHED:
                    if len(cache) >= _MAX_CACHED:
                        cache.clear()
                    cache[pretoken] = found
            ids += found
        return ids

    def encode_pretoken(self, pretoken: bytes, byte_pattern: tuple[str, ...] = ()) -> list[int]:
        """Return the ids of one pre-token, which `byte_pattern` may split further.

        Raises:
            ValueError: If it has a byte that the vocabulary has no token for.
        """
        if byte_pattern:
            pieces = map(from_characters, split_pretokens(byte_pattern, to_characters(pretoken)))
            return [id_ for piece in pieces for id_ in self.encode_pretoken(piece)]
        whole = self._merges.whole_ids.get(pretoken)
        if whole is not None:
            return [whole]
        byte_symbols, vocab_size = self._merges.byte_symbols, self._merges.vocab_size
        if len(pretoken) >= LONG_PRETOKEN_BYTES and self._merges.fit_kernels:
            # `map_in_order` calls the kernel in another thread, because Ctrl-C inside Numba can crash the process.
            (ids,) = map_in_order(self._merge_with_kernel, [pretoken], 1)
        else:
            ids = merge_symbols([byte_symbols[byte] for byte in pretoken], self._merges.ranks)
        for id_ in ids:
            if id_ >= vocab_size:  # the symbol of a byte without a token
                raise missing_byte_error(id_ - vocab_size)
        return ids

    def _merge_with_kernel(self, pretoken: bytes) -> list[int]:
        """Return the symbols of a long pre-token after all merges."""
        import numpy as np

        from bpe.kernels.machine.arrays import read_only
        from bpe.kernels.machine.compiling import structure
        from bpe.kernels.merging.applying import SHORT
        from bpe.kernels.merging.long_pretokens import encode_long_pretoken

        data, merges, out = (
            read_only(pretoken),
            structure(self._merges.arrays),
            np.empty(len(pretoken), dtype=np.uint32),
        )
        number = -2 * SHORT
        while number < 0:
            buffer = np.empty(-number, dtype=np.int64)
            number = encode_long_pretoken(data, 0, len(data), merges, buffer, out, 0)
        ids: list[int] = out[:number].tolist()
        return ids


def missing_byte_error(byte: int) -> ValueError:
    """Return the error for a byte that the vocabulary has no token for."""
    return ValueError(
        f"byte {bytes([byte])!r} is not in the vocabulary, which needs all 256 bytes to encode any text; add it"
    )


def merge_symbols(symbols: list[int], ranks: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Return the symbols after all merges: the lowest rank first and, among equal ranks, the leftmost pair first.

    `symbols` serves as working memory and is overwritten. `ranks` holds the rank and the resulting symbol of each pair.
    A heap of ranks and a linked list of symbols keep the time at O(n log n).
    """
    length = len(symbols)
    after = list(range(1, length + 1))
    before = list(range(-1, length - 1))
    heap: list[tuple[int, int, int, int]] = []

    def push(left: int, right: int) -> None:
        merge = ranks.get((symbols[left], symbols[right]))
        if merge is not None:
            heapq.heappush(heap, (merge[0], left, right, merge[1]))

    for index in range(length - 1):
        push(index, index + 1)
    while heap:
        rank, left, right, merged = heapq.heappop(heap)
        if after[left] != right or ranks.get((symbols[left], symbols[right])) != (rank, merged):
            continue  # one of the two symbols has been merged with another since
        symbols[left] = merged
        symbols[right] = _DEAD
        following = after[left] = after[right]
        if following < length:
            before[following] = left
            push(left, following)
        if before[left] >= 0:
            push(before[left], left)
    return [symbol for symbol in symbols if symbol != _DEAD]
