"""Encoding text of any size: in plain Python or by the kernels, whichever is worth it, in blocks that threads share."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from bpe.encoding.in_python import PieceEncoder
from bpe.encoding.merge_rules import MergeTable
from bpe.text.blocks import BLOCK_BYTES, Block, BlockCutter
from bpe.text.patterns import scanner_of
from bpe.text.special_tokens import SpecialTokenFinder
from bpe.text.utf8 import utf8, utf8_view
from bpe.threads import check_threads, map_in_order

if TYPE_CHECKING:
    import numpy as np

    from bpe.encoding.with_kernels import BlockEncoder, EncodedBlock
    from bpe.text.special_tokens import Span

KERNEL_BYTES = 1 << 20
"""A text of so many bytes is worth loading the kernels for, in a process that has not loaded them."""
KERNEL_BYTES_IN_ALL = 8 << 20
"""So are texts that together have so many."""
_SMALL_TEXT = 1 << 16
"""Texts of up to so many bytes are not divided among threads, nor worth the tables of the kernels."""


class EncodedText(NamedTuple):
    """The ids of a block of a longer text; the bytes encoded, and the U+FFFD in them for malformed UTF-8."""

    ids: list[int] | np.ndarray
    bytes: int
    replaced: int


class TextEncoder:
    """Turns text into ids, with what it remembers of pieces it has seen; several threads may use it at once."""

    def __init__(
        self,
        table: MergeTable,
        special_tokens: Sequence[str],
        special_ids: Sequence[int],
        *,
        pattern: str,
        normalization: str | None,
        id_dtype: str,
    ) -> None:
        self._table = table
        self._special_ids = special_ids
        self._finder = SpecialTokenFinder(special_tokens)
        self._normalization = normalization
        self._scanner = scanner_of(pattern)
        self._pieces = PieceEncoder(table, pattern)
        self._kernels: BlockEncoder | None = None
        self._bytes_in_python = 0
        self._id_dtype = id_dtype
        # Characters of two blocks can only be joined by normalisation where a special token does not stand between.
        self.cutter = BlockCutter(self._finder, pattern if normalization is None else "")

    def load_kernels(self) -> BlockEncoder:
        """Return the encoder that uses kernels, compiled or taken from the disk cache at its first use."""
        if self._kernels is None:
            from bpe.encoding.with_kernels import BlockEncoder

            if self._scanner is None:
                raise ValueError("the kernels do not know the pattern of this tokenizer")
            self._kernels = BlockEncoder(
                self._table, self._finder, self._special_ids, scanner=self._scanner, id_dtype=self._id_dtype
            )
        return self._kernels

    def expect(self, size: int) -> None:
        """Load the kernels if so many bytes, which are to come in blocks, are worth it."""
        if self._worth_kernels(size):
            self.load_kernels()

    def to_list(self, text: str) -> list[int]:
        """Return the ids of a text as a list."""
        if not self._worth_kernels(len(text)):
            return self._in_python(Block(utf8(text)))[0]
        ids: list[int] = []
        # While a part is made a list of, the others are encoded.
        for part in self._parts(text, check_threads(None)):
            ids += self._numbers[part].tolist()
        return ids

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Every id as a Python number: one for all lists, which makes lists faster and much smaller."""
        import numpy as np

        return np.arange(self._table.vocab_size).astype(object)

    def to_numpy(self, text: str, threads: int | None) -> np.ndarray:
        """Return the ids of a text as an array."""
        import numpy as np

        threads = check_threads(threads)
        if not self._worth_kernels(len(text)):
            return np.array(self._in_python(Block(utf8(text)))[0], dtype=self._id_dtype)
        ids = np.empty(len(text) // 3, dtype=self._id_dtype)
        size = 0
        for part in self._parts(text, threads):
            if size + len(part) > len(ids):
                ids.resize(size + max(len(part), size // 2), refcheck=False)
            ids[size : size + len(part)] = part
            size += len(part)
        ids.resize(size, refcheck=False)
        return ids

    def _parts(self, text: str, threads: int) -> Iterator[np.ndarray]:
        """Yield the ids of a text in parts, by the kernels."""
        if len(text) <= _SMALL_TEXT:
            yield self._with_kernels(Block(utf8(text))).ids
            return
        data = utf8_view(text)
        # Enough blocks for the threads, but not so small that the call of a kernel for each counts.
        size = min(BLOCK_BYTES, max(len(data) // (4 * threads), _SMALL_TEXT))
        for encoded in map_in_order(self._with_kernels, self.cutter.blocks_of(data, size), threads):
            yield encoded.ids

    def batch(self, texts: list[str], threads: int | None) -> list[np.ndarray]:
        """Return the ids of each text as an array."""
        threads = check_threads(threads)
        if not self._worth_kernels(sum(map(len, texts))):
            return [self.to_numpy(text, 1) for text in texts]
        ids: list[np.ndarray] = []
        waiting: list[np.ndarray] = []  # parts of a text that goes on
        for encoded, last_spans in map_in_order(self._encode_job, self._jobs(texts), threads):
            if not last_spans:
                waiting.append(encoded.ids)
                continue
            start = 0
            for place in last_spans:
                end = int(encoded.ends[place])
                waiting.append(encoded.ids[start:end])
                ids.append(_joined(waiting) if len(waiting) > 1 else waiting[0].copy())
                waiting.clear()
                start = end
        return ids

    def _encode_job(self, job: tuple[Block, list[int]]) -> tuple[EncodedBlock, list[int]]:
        """Encode the block of a job."""
        return self._with_kernels(job[0]), job[1]

    def _jobs(self, texts: Iterable[str]) -> Iterator[tuple[Block, list[int]]]:
        """Yield blocks, and which of their spans end a text: several of short texts, none inside of a long one."""
        parts: list[bytes] = []
        spans: list[Span] = []
        last_spans: list[int] = []
        size = 0
        for text in texts:
            block = self._normalized(Block(utf8(text)))[0] if self._normalization else Block(utf8(text))
            long = len(block.data) > BLOCK_BYTES and not self._normalization
            if last_spans and (long or size + len(block.data) > BLOCK_BYTES // 4):
                yield Block(b"".join(parts), spans), last_spans
                parts, spans, last_spans, size = [], [], [], 0
            if long:
                yield from ((part, []) for part in self.cutter.blocks_of(block.data))
                block = Block(b"", [])
            known = self._finder.spans(bytes(block.data)) if block.spans is None else block.spans
            spans += [(size + start, size + end, index) for start, end, index in known]
            size += len(block.data)
            last_spans.append(len(spans))
            spans.append((size, size, -1))
            parts.append(bytes(block.data))
        if last_spans:
            yield Block(b"".join(parts), spans), last_spans

    def block(self, block: Block) -> EncodedText:
        """Return the ids of a block that the cutter made of a longer text."""
        if self._worth_kernels(len(block.data)):
            encoded = self._with_kernels(block)
            return EncodedText(encoded.ids, encoded.bytes, encoded.replaced)
        return EncodedText(*self._in_python(block))

    def _with_kernels(self, block: Block) -> EncodedBlock:
        """Encode a block with the kernels."""
        encoder = self.load_kernels()
        if self._normalization and block.spans is None:
            block, size, replaced = self._normalized(block)
            return encoder.encode(block)._replace(bytes=size, replaced=replaced)
        return encoder.encode(block)

    def _in_python(self, block: Block) -> tuple[list[int], int, int]:
        """Return the ids of a block, its bytes, and the U+FFFD put in for malformed UTF-8, without the kernels."""
        ids: list[int] = []
        texts, size, replaced = block.texts(self._finder)
        for text, special in texts:
            ids += self._pieces.encode(self._form(text))
            if special >= 0:
                ids.append(self._special_ids[special])
        self._bytes_in_python += size
        return ids, size, replaced

    def _normalized(self, block: Block) -> tuple[Block, int, int]:
        """Return a block with its text between special tokens normalised, its bytes before, and the U+FFFD put in."""
        texts, size, replaced = block.texts(self._finder)
        parts: list[bytes] = []
        spans: list[Span] = []
        done = 0
        for text, special in texts:
            parts.append(self._form(text).encode("utf-8"))
            done += len(parts[-1])
            if special >= 0:
                parts.append(self._finder.tokens[special])
                spans.append((done, done + len(parts[-1]), special))
                done += len(parts[-1])
        return Block(b"".join(parts), spans), size, replaced

    def _form(self, text: str) -> str:
        """Return a text without special tokens in the normal form of this tokenizer."""
        return text if self._normalization is None else unicodedata.normalize("NFC", text)

    def _worth_kernels(self, size: int) -> bool:
        """Say whether to encode about `size` bytes with the kernels, if they know the pattern."""
        if self._scanner is None or size == 0:
            return False
        if self._kernels is not None:
            return True
        loaded = size >= _SMALL_TEXT and "bpe.kernels.merging.encoding" in sys.modules
        worth = loaded or size >= KERNEL_BYTES or self._bytes_in_python + size >= KERNEL_BYTES_IN_ALL
        return worth and self._table.fits_kernels


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return the arrays one after the other."""
    import numpy as np

    return parts[0] if len(parts) == 1 else np.concatenate(parts)
