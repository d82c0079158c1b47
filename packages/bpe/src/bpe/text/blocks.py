"""Cuts of text into blocks that no pre-token and no special token crosses."""

from __future__ import annotations

import unicodedata
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from bpe.kernels import SMALL_TEXT_BYTES, are_ready, encoding_loaded, learning_loaded
from bpe.kernels.scanning.scanner import GPT2, Scanner
from bpe.text.patterns import Pattern, scanner_of
from bpe.text.special_tokens import Span, SpecialTokenFinder
from bpe.text.utf8 import replace_malformed

if TYPE_CHECKING:
    import numpy as np
    import regex

BLOCK_BYTES = 1 << 20

_FIRST_REACH = 256
_LAST_REACH = 4096
"""Beyond this distance from the end, a kernel searches for a cut."""


@dataclass(frozen=True)
class Block:
    """A part of a text that can be encoded by itself.

    `spans` lists the special tokens and the boundaries between texts, if they are known already; `data` is then valid
    UTF-8. Otherwise `texts` and `arrays` search for special tokens and replace malformed UTF-8.
    """

    data: bytes | memoryview
    spans: list[Span] | np.ndarray | None = None
    continues: bool = False
    """True if the cut before the block is within the text between two special tokens."""
    is_valid: bool = False
    """True if `data` is known to be valid UTF-8."""

    def valid(self) -> tuple[bytes, int]:
        """Return the bytes as valid UTF-8, and the number of malformed sequences replaced by U+FFFD."""
        known = self.is_valid or self.spans is not None
        return (bytes(self.data), 0) if known else replace_malformed(bytes(self.data))

    def searched(self, finder: SpecialTokenFinder) -> Block:
        """Return the block with the spans that `finder` finds, by a kernel; `data` must be valid UTF-8."""
        read_only, _ = _kernel_functions()
        return Block(self.data, finder.find(read_only(self.data)))

    def texts(self, finder: SpecialTokenFinder, *, nfc: bool = False) -> tuple[list[tuple[str, int]], int, int]:
        """Return the block as strings, in the Unicode normal form NFC or as they are.

        Returns:
            Each text between special tokens with the index of the special token that follows it (-1: none), the number
            of bytes, and the number of malformed sequences replaced by U+FFFD.
        """
        data, replaced = self.valid()
        texts: list[tuple[str, int]] = []
        done = 0
        for start, end, index in finder.spans(data) if self.spans is None else self.spans:
            texts.append((data[done:start].decode("utf-8"), index))
            done = end
        texts.append((data[done:].decode("utf-8"), -1))
        if nfc:
            texts = [(unicodedata.normalize("NFC", text), index) for text, index in texts]
        return texts, len(data), replaced

    def normalized(self, finder: SpecialTokenFinder) -> tuple[Block, int, int]:
        """Return the block with the text between special tokens in the Unicode normal form NFC.

        Returns:
            The new block, the number of bytes before normalization, and the number of malformed sequences replaced by
            U+FFFD.
        """
        texts, size, replaced = self.texts(finder, nfc=True)
        parts: list[bytes] = []
        spans: list[Span] = []
        done = 0
        for text, index in texts:
            parts.append(text.encode("utf-8"))
            done += len(parts[-1])
            token = finder.tokens[index] if index >= 0 else b""
            parts.append(token)
            spans.append((done, done + len(token), index))
            done += len(token)
        return Block(b"".join(parts), spans[:-1]), size, replaced

    def arrays(self, finder: SpecialTokenFinder) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the block as arrays for the kernels.

        Returns:
            The bytes (read-only uint8), the spans of special tokens (int64, shape (n, 3)), and the number of malformed
            sequences replaced by U+FFFD.
        """
        read_only, is_well_formed = _kernel_functions()
        data, replaced = read_only(self.data), 0
        if self.spans is not None:
            import numpy as np

            return data, np.array(self.spans, dtype=np.int64).reshape(-1, 3), 0
        if not (self.is_valid or is_well_formed(data)):
            cleaned, replaced = replace_malformed(bytes(self.data))
            data = read_only(cleaned)
        return data, finder.find(data), replaced


@lru_cache(maxsize=1)
def _kernel_functions() -> tuple[Callable[[bytes | memoryview], np.ndarray], Callable[[np.ndarray], bool]]:
    """Import `read_only` and `is_well_formed` once: an import in every call would delay short texts."""
    from bpe.kernels.machine.arrays import read_only
    from bpe.kernels.scanning.utf8 import is_well_formed

    return read_only, is_well_formed


class BlockCutter:
    """Cuts UTF-8, whole or as a stream, into blocks whose encodings, joined, are the encoding of the whole.

    With a pattern that the kernels know, a block ends between two pre-tokens or after a special token. With any other
    pattern a block ends only after a special token, so each document is held in memory as a whole. No block begins or
    ends with one of the tokens that are to be `apart` from cuts, because the text around them matters.
    """

    def __init__(self, finder: SpecialTokenFinder, pattern: Pattern, *, apart: Iterable[str] = ()) -> None:
        self._finder = finder
        self._scanner = scanner_of(pattern)
        self._apart = tuple(token.encode("utf-8") for token in apart)

    def blocks(self, chunks: Iterable[bytes], block_bytes: int = 1) -> Iterator[Block]:
        """Yield blocks of at least `block_bytes` from a stream of chunks."""
        waiting: list[bytes] = []
        size, enough = 0, block_bytes
        continues = False
        for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size < enough:
                continue
            data = b"".join(waiting)
            cut = self._last_cut(data, 0, len(data))
            if cut:
                yield Block(data[:cut], continues=continues)
                continues = self._scanner is not None
                data = data[cut:]
                enough = block_bytes
            else:
                enough = 2 * size  # so that a text without a cut is not searched again with every chunk
            waiting, size = [data], len(data)
        if size:
            yield Block(b"".join(waiting), continues=continues)

    def blocks_of(
        self, data: bytes | memoryview, block_bytes: int = BLOCK_BYTES, *, is_valid: bool = False
    ) -> Iterator[Block]:
        """Yield blocks of about `block_bytes` of a text in memory, without copying it; `is_valid` as in `Block`."""
        view = memoryview(data)
        start, size, searched = 0, block_bytes, 0
        continues = False
        while start + size < len(view):
            cut = self._last_cut(view, max(start, searched), start + size)
            if cut:
                yield Block(view[start:cut], continues=continues, is_valid=is_valid)
                continues = self._scanner is not None
                start, size = cut, block_bytes
            else:
                if not self._apart:  # else a token may lie there, and the next search must find it whole
                    searched = start + size - self._finder.longest - 4  # the next search sees more text here
                size *= 2
        if start < len(view):
            yield Block(view[start:], continues=continues, is_valid=is_valid)

    def blocks_of_texts(self, texts: Iterable[Block], block_bytes: int) -> Iterator[tuple[Block, list[int]]]:
        """Yield blocks of separate texts, each with the indices of its spans that end a text.

        Short texts share a block of at most `block_bytes`, unless a single one is larger. The blocks of a long text
        have no such span: the span that ends it is the first one of the next shared block. A text with known spans is
        never cut.
        """
        parts: list[bytes] = []
        spans: list[Span] = []
        last_spans: list[int] = []
        size = 0
        for text in texts:
            long = text.spans is None and len(text.data) > BLOCK_BYTES
            if last_spans and (long or size + len(text.data) > block_bytes):
                yield Block(b"".join(parts), spans), last_spans
                parts, spans, last_spans, size = [], [], [], 0
            data = bytes(text.data)
            if long:
                yield from ((block, []) for block in self.blocks_of(data))
                data = b""
            known = self._finder.spans(data) if text.spans is None else text.spans
            spans += [(size + start, size + end, index) for start, end, index in known]
            size += len(data)
            last_spans.append(len(spans))
            spans.append((size, size, -1))
            parts.append(data)
        if last_spans:
            yield Block(b"".join(parts), spans), last_spans

    def _last_cut(self, data: bytes | memoryview, floor: int, end: int) -> int | None:
        """Return the last cut in data[floor:end] that the text after `end` cannot change, or None."""
        if self._scanner is None:
            return self._end_of_last_special_token(data, floor, end)
        # A special token that starts later, or there if it must lie apart, may be longer than the visible part.
        end = min(end, len(data) - max(self._finder.longest - (0 if self._apart else 1), 1))
        loaded = encoding_loaded() or learning_loaded() or (end - floor > SMALL_TEXT_BYTES and are_ready())
        if end > floor and loaded:
            return self._distant_cut(data, floor, end, self._scanner)
        reach = _FIRST_REACH
        while end > floor:
            start = max(floor, end - reach)
            window = bytes(data[start : end + 1])
            for cut in _cuts(window, self._scanner):
                if 0 < cut <= end - start:
                    straddling = self._finder.straddling(data, start + cut)
                    if straddling is None:
                        if not self._touches(data, start + cut):
                            return start + cut
                        continue
                    end = straddling  # no cut within that token is possible either
            if start == floor:
                return None
            if reach == _LAST_REACH:
                return self._distant_cut(data, floor, min(start, end), self._scanner)
            reach = _LAST_REACH
        return None

    def _distant_cut(self, data: bytes | memoryview, floor: int, end: int, scanner: Scanner) -> int | None:
        """Return the last cut in data[floor:end], found by a kernel, or None."""
        from bpe.kernels.machine.arrays import read_only

        array = read_only(data)
        cut = self._finder.last_cut(array, floor, end, scanner)
        while cut > 0 and self._touches(data, cut):
            cut = self._finder.last_cut(array, floor, cut - 1, scanner)
        return cut if cut > 0 else None

    def _touches(self, data: bytes | memoryview, cut: int) -> bool:
        """Return whether a token that must lie apart from cuts begins or ends at a cut.

        No other token can take in white space across a cut, because white space may follow a cut, but not precede it.
        """
        if not self._apart:
            return False
        longest = self._finder.longest
        before, after = bytes(data[max(0, cut - longest) : cut]), bytes(data[cut : cut + longest])
        return before.endswith(self._apart) or after.startswith(self._apart)

    def _end_of_last_special_token(self, data: bytes | memoryview, floor: int, end: int) -> int | None:
        """Return the end of the last special token in data[floor:end] that cannot become a longer one, or None."""
        visible = bytes(data[floor:end])
        horizon = len(visible) - max(self._finder.longest - 1, 0)
        if self._apart:  # the token after the cut must be visible, too
            horizon -= self._finder.longest
        ends = [span[1] for span in self._finder.spans(visible) if span[0] < horizon]
        while ends and self._touches(visible, ends[-1]):
            ends.pop()
        return floor + ends[-1] if ends else None


def _cuts(window: bytes, scanner: Scanner) -> Iterator[int]:
    """Yield cuts of a part of a text, the last one first; any text may precede and follow it."""
    # Malformed bytes become single characters, which no pattern joins with letters, digits or white space. The decoder
    # holds back a character that is cut off at the end.
    text = getincrementaldecoder("utf-8")("surrogateescape").decode(window)
    for match in _cut_pattern(scanner.kind == GPT2).finditer(text):
        cut = len(text[: match.start()].encode("utf-8", "surrogateescape"))
        # The class of a character that begins before the window is unknown.
        if cut >= 4 or (cut > 0 and window[cut - 1] < 0x80):
            yield cut


@lru_cache(maxsize=2)
def _cut_pattern(gpt2: bool) -> regex.Pattern[str]:
    """Return a pattern that finds, from the end, boundaries of pre-tokens that the text around cannot change.

    No pattern that the kernels know has a pre-token in which one of these pairs of characters stands together:

    - anything but white space, and white space that is no line break;
    - a digit, and anything but a digit;
    - a letter, and anything but a letter, a mark, or an apostrophe, which may begin a contraction.

    So there is a boundary wherever such a pair stands. The part before it is split as in the whole text, because
    patterns look ahead only from white space, and the first of a pair is none. The part after it is, too, because
    patterns do not look behind.

    GPT-2's pattern joins characters of different classes only after white space and in contractions. For it, all other
    changes of the class are such boundaries.
    """
    import regex

    if gpt2:
        after_others = r"(?<=[^\s\p{L}\p{N}])(?=\s|\p{N})|(?<=[^\s\p{L}\p{N}'])(?=\p{L})"
        return regex.compile(rf"(?r)(?<=\p{{L}})(?=\P{{L}})|(?<=\p{{N}})(?=\P{{N}})|{after_others}")
    return regex.compile(r"(?r)(?<=\S)(?=[^\S\r\n])|(?<=\p{L})(?=[^\p{L}\p{M}'])|(?<=\p{N})(?=\P{N})")
