"""Encoding of texts of any size: in plain Python or by the kernels, in blocks that threads share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from bpe import kernels
from bpe.encoding.in_python import PretokenEncoder
from bpe.encoding.merges import Merges
from bpe.text import (
    BLOCK_BYTES,
    AddedToken,
    AddedTokenSplitter,
    Block,
    BlockCutter,
    Span,
    SpecialTokenFinder,
    scanner_of,
    utf8,
    utf8_view,
)
from bpe.threads import check_threads, map_in_order
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

    from bpe.encoding.with_kernels import BlockEncoder, EncodedBlock


class EncodedText(NamedTuple):
    """The encoding of a block of a longer text."""

    ids: list[int] | np.ndarray
    bytes: int
    """Number of bytes that were encoded."""
    replaced: int
    """Number of malformed sequences that were replaced by U+FFFD."""


def _needs_splitter(token: AddedToken) -> bool:
    """Return whether a token is found in another way than special tokens are."""
    return token.looks_around or token.normalized


class TextEncoder:
    """Encodes text with a cache of pre-tokens; several threads may use it at once."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self._merges = Merges(spec)
        self._special_ids = list(spec.found_ids.values())
        self._finder = SpecialTokenFinder(list(spec.found_ids))
        self._scanner = None if spec.byte_pattern else scanner_of(spec.pattern)
        self._pretokens = PretokenEncoder(self._merges, spec.pattern, spec.byte_pattern)
        self._kernels: BlockEncoder | None = None
        self._bytes_in_python = 0
        self.cutter = BlockCutter(self._finder, spec.pattern)
        self._splitter: AddedTokenSplitter | None = None
        if spec.normalization or spec.add_prefix_space or any(map(_needs_splitter, spec.found_tokens)):
            self._splitter = AddedTokenSplitter(
                spec.found_tokens, normalization=spec.normalization, prefix_space=spec.add_prefix_space
            )
            self.cutter = self._cutter_for_splitter()

    def _cutter_for_splitter(self) -> BlockCutter:
        """Return a cutter for tokens that are not all found in the same way."""
        spec, tokens = self.spec, self.spec.found_tokens
        if spec.normalization is None and scanner_of(spec.pattern) is not None:
            # A text begins with a space where the tokenizer demands it, but not what follows a cut within it.
            apart = [token.content for token in tokens if token.looks_around or spec.add_prefix_space]
            return BlockCutter(self._finder, spec.pattern, apart=apart)
        # Normalization can combine the characters on both sides of a cut. No scanner knows the empty pattern, so the
        # cutter then cuts only after tokens, which must be among those that are searched for first.
        first = [token for token in tokens if not token.normalized]
        finder = SpecialTokenFinder([token.content for token in first])
        return BlockCutter(finder, "", apart=[token.content for token in first if token.looks_around])

    def load_kernels(self) -> BlockEncoder:
        """Return the encoder that uses kernels, which are compiled or read from the disk cache at their first use."""
        if self._kernels is None:
            from bpe.encoding.with_kernels import BlockEncoder

            if self._scanner is None:
                raise ValueError("the kernels do not know the pattern of this tokenizer")
            self._kernels = BlockEncoder(
                self._merges, self._finder, self._special_ids, scanner=self._scanner, id_dtype=self.spec.id_dtype
            )
        return self._kernels

    def prepare_for(self, size: int) -> None:
        """Load the kernels if they pay off for `size` bytes that will come in blocks."""
        if self._worth_kernels(size):
            self.load_kernels()

    def to_list(self, text: str) -> list[int]:
        """Return the ids of a text as a list."""
        if not self._worth_kernels(len(text)):
            return self._text_in_python(text)
        ids: list[int] = []
        # While one part is converted to a list, threads encode the others.
        for part in self._parts(text, check_threads(None)):
            ids += self._shared_ids[part].tolist()
        return ids

    @cached_property
    def _shared_ids(self) -> np.ndarray:
        """All ids as Python integers; lists that share them take less time and much less memory."""
        import numpy as np

        return np.arange(self.spec.vocab_size).astype(object)

    def to_numpy(self, text: str, threads: int | None) -> np.ndarray:
        """Return the ids of a text as an array."""
        import numpy as np

        threads = check_threads(threads)
        if not self._worth_kernels(len(text)):
            return np.array(self._text_in_python(text), dtype=self.spec.id_dtype)
        ids = np.empty(len(text) // 3, dtype=self.spec.id_dtype)  # a first guess of the number of ids
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
        if len(text) <= kernels.SMALL_TEXT_BYTES:
            yield self._with_kernels(Block(utf8(text))).ids
            return
        data = utf8_view(text)
        # Enough blocks for the threads, but large enough for the cost of a kernel call not to matter.
        size = min(BLOCK_BYTES, max(len(data) // (4 * threads), kernels.SMALL_TEXT_BYTES))
        for encoded in map_in_order(self._with_kernels, self.cutter.blocks_of(data, size), threads):
            yield encoded.ids

    def batch(self, texts: list[str], threads: int | None) -> list[np.ndarray]:
        """Return the ids of each text as an array."""
        import numpy as np

        threads = check_threads(threads)
        if not self._worth_kernels(sum(map(len, texts))):
            return [self.to_numpy(text, 1) for text in texts]
        blocks = (Block(utf8(text)) for text in texts)
        if self._splitter is not None:
            blocks = (self._split(block)[0] for block in blocks)

        def encode(job: tuple[Block, list[int]]) -> tuple[EncodedBlock, list[int]]:
            return self._with_kernels(job[0]), job[1]

        jobs = self.cutter.blocks_of_texts(blocks, BLOCK_BYTES // 4)
        ids: list[np.ndarray] = []
        waiting: list[np.ndarray] = []  # parts of an unfinished text
        for encoded, last_spans in map_in_order(encode, jobs, threads):
            if not last_spans:
                waiting.append(encoded.ids)
                continue
            start = 0
            for span in last_spans:
                end = int(encoded.ends[span])
                waiting.append(encoded.ids[start:end])
                ids.append(np.concatenate(waiting))
                waiting.clear()
                start = end
        return ids

    def block(self, block: Block) -> EncodedText:
        """Return the ids of a block that the cutter cut from a longer text."""
        if self._worth_kernels(len(block.data)):
            encoded = self._with_kernels(block)
            return EncodedText(encoded.ids, encoded.bytes, encoded.replaced)
        parts, size, replaced = self._texts(block)
        self._bytes_in_python += size
        return EncodedText(self._parts_in_python(parts), size, replaced)

    def _with_kernels(self, block: Block) -> EncodedBlock:
        """Encode a block with the kernels."""
        encoder = self.load_kernels()
        if self._splitter is not None and block.spans is None:
            block, size, replaced = self._split(block)
            return encoder.encode(block)._replace(bytes=size, replaced=replaced)
        return encoder.encode(block)

    def _text_in_python(self, text: str) -> list[int]:
        """Encode a string without kernels."""
        if self._splitter is not None:
            ids = self._parts_in_python(self._splitter.split(utf8(text)))
            self._bytes_in_python += len(text)
            return ids
        try:
            ids = self._parts_in_python(self._finder.split(text))
        except UnicodeEncodeError:  # a lone surrogate, or a pair of them
            ids = self._parts_in_python(self._finder.split(utf8(text).decode("utf-8")))
        self._bytes_in_python += len(text)
        return ids

    def _parts_in_python(self, parts: Iterable[tuple[str, int]]) -> list[int]:
        """Encode texts, each with the index of the special token that follows it (-1: none)."""
        ids: list[int] = []
        for text, special in parts:
            ids += self._pretokens.encode(text)
            if special >= 0:
                ids.append(self._special_ids[special])
        return ids

    def _texts(self, block: Block) -> tuple[list[tuple[str, int]], int, int]:
        """Return the texts between tokens as `Block.texts` does, ready to be split into pre-tokens."""
        if self._splitter is None:
            return block.texts(self._finder)
        data, replaced = block.valid()
        return self._splitter.split(data, continues=block.continues), len(data), replaced

    def _split(self, block: Block) -> tuple[Block, int, int]:
        """Find the tokens in a block.

        Returns:
            A block with known spans and the text between them as the kernels split it, the number of bytes before, and
            the number of malformed sequences replaced by U+FFFD.
        """
        texts, size, replaced = self._texts(block)
        parts: list[bytes] = []
        spans: list[Span] = []
        done = 0
        for text, special in texts:
            parts.append(text.encode("utf-8"))
            done += len(parts[-1])
            if special >= 0:
                parts.append(self._finder.tokens[special])
                spans.append((done, done + len(parts[-1]), special))
                done += len(parts[-1])
        return Block(b"".join(parts), spans), size, replaced

    def _worth_kernels(self, size: int) -> bool:
        """Return whether to encode about `size` bytes with the kernels."""
        if self._scanner is None or size == 0:
            return False
        if self._kernels is not None:
            return True
        worth = (
            size >= kernels.ENCODING_BYTES
            or self._bytes_in_python + size >= kernels.ENCODING_BYTES_IN_TOTAL
            or (size >= kernels.SMALL_TEXT_BYTES and kernels.encoding_loaded())
        )
        return worth and self._merges.fit_kernels
