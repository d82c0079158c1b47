"""Cutting text into blocks, where no pre-token and no special token goes across."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from bpe.text.patterns import Scanner, scanner_of
from bpe.text.special_tokens import Span, SpecialTokenFinder
from bpe.text.utf8 import replace_malformed

if TYPE_CHECKING:
    import regex

BLOCK_BYTES = 1 << 20

_FIRST_REACH = 256
_LAST_REACH = 4096
"""What lies further from the end is looked through by a kernel."""
_WIDE_SPACES = tuple(
    character.encode()
    for character in "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True)
class Block:
    """A stretch of text that can be encoded by itself.

    `spans` is where special tokens and borders between texts lie in it, if that is known already; the data then is
    valid UTF-8. Otherwise both are still to be seen to.
    """

    data: bytes | memoryview
    spans: list[Span] | None = None

    def texts(self, finder: SpecialTokenFinder) -> tuple[list[tuple[str, int]], int, int]:
        """Return each text between special tokens with the index of the special token that follows it (-1: none).

        And the number of bytes, and of U+FFFD among them that replace malformed UTF-8.
        """
        data, replaced = (bytes(self.data), 0) if self.spans is not None else replace_malformed(bytes(self.data))
        texts: list[tuple[str, int]] = []
        done = 0
        for start, end, index in finder.spans(data) if self.spans is None else self.spans:
            texts.append((data[done:start].decode("utf-8"), index))
            done = end
        texts.append((data[done:].decode("utf-8"), -1))
        return texts, len(data), replaced


@lru_cache(maxsize=1)
def _cuts_in_bytes() -> regex.Pattern[bytes]:
    """Return a pattern that finds, from the end, places between two pre-tokens that no other text can change.

    One is between an ASCII letter or digit and an ASCII character of another class: only white space and signs are
    joined to what follows. Another is before white space that follows something else. (Within white space there is
    none: what follows decides where its run is split.) This holds next to malformed UTF-8 too.
    """
    import regex

    return regex.compile(
        rb"(?r)(?<=[A-Za-z])(?=[\x00-@\[-`{-\x7f])|(?<=[0-9])(?=[\x00-/:-\x7f])|(?<=[^\t-\r ])(?=[\t-\r ])"
    )


@lru_cache(maxsize=1)
def _cuts_in_text() -> regex.Pattern[str]:
    """Return a pattern that finds, from the end, such places among all characters.

    There the character before is not white space and the two differ in class, except that an apostrophe may go
    together with letters that follow.
    """
    import regex

    return regex.compile(
        r"(?r)(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=[^\s\p{L}\p{N}])(?=\s|\p{N})|(?<=[^\s\p{L}\p{N}'])(?=\p{L})"
    )


@lru_cache(maxsize=1)
def _cuts_after_words() -> tuple[regex.Pattern[bytes], regex.Pattern[str]]:
    """Return both for patterns like cl100k's, where signs may go together with what follows: after words and digits."""
    import regex

    return (
        regex.compile(rb"(?r)(?<=[A-Za-z])(?=[\x00-@\[-`{-\x7f])|(?<=[0-9])(?=[\x00-/:-\x7f])"),
        regex.compile(r"(?r)(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})"),
    )


class BlockCutter:
    """Cuts UTF-8, whole or as a stream, into blocks whose encodings, one after the other, are that of the whole.

    With a pattern that the kernels know, a block ends between two pre-tokens or after a special token; with any other
    only after a special token, so that a document then is held in memory as a whole.
    """

    def __init__(self, finder: SpecialTokenFinder, pattern: str) -> None:
        self._finder = finder
        self._scanner = scanner_of(pattern)

    def blocks(self, chunks: Iterable[bytes], block_bytes: int = 1) -> Iterator[Block]:
        """Yield the blocks, of `block_bytes` or more, of a stream of chunks."""
        waiting: list[bytes] = []
        size, enough = 0, block_bytes
        for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size < enough:
                continue
            data = b"".join(waiting)
            cut = self._last_cut(data, 0, len(data))
            if cut:
                yield Block(data[:cut])
                data = data[cut:]
                enough = block_bytes
            else:
                enough = 2 * size  # so that a text without a place to cut is not searched again with every chunk
            waiting, size = [data], len(data)
        if size:
            yield Block(b"".join(waiting))

    def blocks_of(self, data: bytes | memoryview, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield the blocks, of about `block_bytes`, of a text that is in memory or mapped; none is copied."""
        view = memoryview(data)
        start, size, searched = 0, block_bytes, 0
        while start + size < len(view):
            cut = self._last_cut(view, max(start, searched), start + size)
            if cut:
                yield Block(view[start:cut])
                start, size = cut, block_bytes
            else:
                searched = start + size - self._finder.longest - 4  # near there more is known now
                size *= 2
        if start < len(view):
            yield Block(view[start:])

    def _last_cut(self, data: bytes | memoryview, floor: int, end: int) -> int | None:
        """Return the last place in data[floor:end], which what follows `end` cannot change, to cut before, if any."""
        if self._scanner is None:
            return self._end_of_last_special_token(data, floor, end)
        # One that starts later may be a longer special token than is seen.
        end = min(end, len(data) - max(self._finder.longest - 1, 1))
        reach = _FIRST_REACH
        while end > floor:
            start = max(floor, end - reach)
            window = bytes(data[start : end + 1])
            for cut in _cut_places(window, self._scanner):
                if 0 < cut <= end - start and not self._finder.stretches_over(data, start + cut):
                    return start + cut
            if start == floor:
                return None
            if reach == _LAST_REACH:
                return self._distant_cut(data, floor, start)
            reach = _LAST_REACH
        return None

    def _distant_cut(self, data: bytes | memoryview, floor: int, end: int) -> int | None:
        """Do what `_last_cut` does by a kernel."""
        from bpe.kernels.scanning.cutting import last_cut
        from bpe.text.block_arrays import read_only
        from bpe.text.unicode_classes import class_table

        array = read_only(data)
        while (
            cut := last_cut(array, floor, end, self._scanner.most_digits if self._scanner else 0, class_table())
        ) > 0:
            if not self._finder.stretches_over(data, cut):
                return int(cut)
            end = cut - 1
        return None

    def _end_of_last_special_token(self, data: bytes | memoryview, floor: int, end: int) -> int | None:
        """Return where the last special token in data[floor:end] ends, if it cannot become a longer one."""
        horizon = end - floor - max(self._finder.longest - 1, 0)
        ends = [span[1] for span in self._finder.spans(bytes(data[floor:end])) if span[0] < horizon]
        return floor + ends[-1] if ends else None


def _cut_places(window: bytes, scanner: Scanner) -> Iterator[int]:
    """Yield places to cut before, the last one first: those next to ASCII, then those among other characters."""
    in_bytes, in_text = (_cuts_in_bytes(), _cuts_in_text()) if scanner.most_digits == 0 else _cuts_after_words()
    for match in in_bytes.finditer(window):
        # Of a character that begins before the window nobody knows what it is.
        known = window[match.start() - 1] < 0x80 or match.start() >= 4
        if known and not window[: match.start()].endswith(_WIDE_SPACES):
            yield match.start()
    start = 0
    while start < min(4, len(window)) and window[start] & 0xC0 == 0x80:
        start += 1
    try:
        text = window[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        # A character that is cut off at the end is left out; malformed UTF-8 in between is not worth a search.
        if error.reason != "unexpected end of data":
            return
        text = window[start : start + error.start].decode("utf-8")
    for found in in_text.finditer(text):
        yield start + len(text[: found.start()].encode("utf-8"))
