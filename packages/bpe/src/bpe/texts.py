"""Reading text as UTF-8 in bounded blocks that are cut where no pre-token and no special token goes across."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.compression import open_text_file
from bpe.errors import InvalidUTF8Warning
from bpe.patterns import is_gpt2_pattern
from bpe.special_tokens import Span, SpecialTokenFinder

if TYPE_CHECKING:
    import numpy as np
    import regex

StrPath = str | PathLike[str]

BLOCK_BYTES = 4 << 20
TEXT_SUFFIXES = (".txt", ".gz", ".zst")
_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True)
class Block:
    """A stretch of valid UTF-8 that can be encoded by itself, and where special tokens lie in it."""

    data: bytes
    spans: list[Span]

    def segments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the text between special tokens starts and ends and which special token follows it.

        Each is int64 of shape (spans + 1,); the last one is followed by -1: none.
        """
        import numpy as np

        spans = np.array(self.spans, dtype=np.int64).reshape(-1, 3)
        starts = np.concatenate(([0], spans[:, 1]))
        ends = np.concatenate((spans[:, 0], [len(self.data)]))
        following = np.concatenate((spans[:, 2], [-1]))
        return starts, ends, following

    def texts(self) -> Iterator[tuple[str, int]]:
        """Yield each text between special tokens with the index of the special token that follows it (-1: none)."""
        done = 0
        for start, end, index in self.spans:
            yield self.data[done:start].decode("utf-8"), index
            done = end
        yield self.data[done:].decode("utf-8"), -1


def utf8(text: str) -> bytes:
    """Return the UTF-8 of a string; surrogate pairs are joined and lone surrogates become U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")
    except AttributeError:
        raise TypeError(f"text is a {type(text).__name__}, expected a str; decode bytes first") from None


def split_characters(data: bytes, size: int) -> Iterator[bytes]:
    """Yield valid UTF-8 in parts of about `size` bytes that do not end inside a character."""
    start = 0
    while start < len(data):
        end = min(start + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        yield data[start:end]
        start = end


@lru_cache(maxsize=1)
def _last_cut_pattern() -> regex.Pattern[str]:
    """Return a pattern that finds, from the end, a place between two pre-tokens that no other text can change.

    There the character before is not white space and the two differ in class, except that an apostrophe may go
    together with letters that follow. (After white space there is none: what follows decides where its run is split.)
    """
    import regex

    return regex.compile(
        r"(?r)(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=[^\s\p{L}\p{N}])(?=\s|\p{N})|(?<=[^\s\p{L}\p{N}'])(?=\p{L})"
    )


def _last_pattern_cut(data: bytes, floor: int, end: int) -> int | None:
    """Return the last place in data[floor:end] where GPT-2's pattern surely ends a pre-token, if there is one."""
    while end > floor and end < len(data) and data[end] & 0xC0 == 0x80:
        end -= 1
    reach = 256
    while True:
        start = max(floor, end - reach)
        while start > floor and data[start] & 0xC0 == 0x80:
            start -= 1
        tail = data[start:end].decode("utf-8")
        match = _last_cut_pattern().search(tail)
        if match is not None:
            return start + len(tail[: match.start()].encode("utf-8"))
        if start == floor:
            return None
        reach *= 16


class BlockCutter:
    """Cuts a stream of UTF-8 into blocks whose encodings, one after the other, are the encoding of the whole.

    With GPT-2's pattern a block ends between two pre-tokens or after a special token; with any other pattern only
    after a special token, so that a document then is held in memory as a whole.
    """

    def __init__(self, finder: SpecialTokenFinder, pattern: str) -> None:
        self._finder = finder
        self._gpt2 = is_gpt2_pattern(pattern)

    def whole(self, data: bytes) -> Block:
        """Return a block of all of `data`, which must be all that is left."""
        return Block(data, self._finder.spans(data))

    def split(self, data: bytes) -> tuple[Block | None, bytes]:
        """Return the longest block that what follows `data` cannot change, if there is one, and the rest."""
        spans = self._finder.spans(data)
        # A special token that starts before the horizon is seen whole, with any longer one that could stand there.
        horizon = len(data) - max(self._finder.longest - 1, 0)
        certain = len(spans)
        while certain and spans[certain - 1][0] >= horizon:
            certain -= 1
        cut = spans[certain - 1][1] if certain else 0
        if self._gpt2 and horizon > cut:
            cut = _last_pattern_cut(data, cut, horizon) or cut
        if cut == 0:
            return None, data
        return Block(data[:cut], [span for span in spans[:certain] if span[1] <= cut]), data[cut:]

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block]:
        """Yield the blocks of a stream of chunks of valid UTF-8, a chunk never ending inside a character."""
        waiting: list[bytes] = []
        size = enough = 0
        for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size < enough:
                continue
            block, rest = self.split(b"".join(waiting))
            if block is not None:
                yield block
                enough = 0
            else:
                enough = 2 * size  # so that a text without a place to cut is not searched again with every chunk
            waiting, size = [rest], len(rest)
        if size:
            yield self.whole(b"".join(waiting))


def find_files(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return the files that `paths` name: files as they are, folders searched for .txt, .gz and .zst in sorted order.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no path, or a folder has no text file.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | PathLike) else paths:
        path = Path(path)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in TEXT_SUFFIXES and file.is_file())
            if not found:
                raise ValueError(f"folder {str(path)!r} has no file ending in {', '.join(TEXT_SUFFIXES)}; name a file")
            files.extend(found)
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if not files:
        raise ValueError("paths is empty, expected at least one file or folder; name one")
    return files


def _without_partial_character(data: bytes) -> int:
    """Return the length of `data` without a character that may be completed by what follows."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return len(data) - back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else len(data)
        if byte < 0x80:
            break
    return len(data)


def replace_malformed(data: bytes) -> tuple[bytes, int]:
    """Return `data` with malformed UTF-8 replaced by U+FFFD, and the number of U+FFFD put in."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        replaced = data.decode("utf-8", "replace").encode("utf-8")
        # 0xEF never continues a character, so every U+FFFD that was there is still one.
        return replaced, replaced.count(_REPLACEMENT) - data.count(_REPLACEMENT)
    return data, 0


class TextFile:
    """A text file, plain or compressed, read once in chunks of valid UTF-8; counts what it reads and replaces."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.bytes = 0
        self.invalid_utf8 = 0

    def chunks(self, chunk_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """Yield the text, malformed UTF-8 replaced; line ends and a byte-order mark stay as they are.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is empty, or its compressed data is damaged.
        """
        rest = b""
        nothing = True
        for chunk in open_text_file(self.path, chunk_bytes):
            nothing = False
            data = rest + chunk
            size = _without_partial_character(data)
            rest = data[size:]
            yield self._cleaned(data[:size])
        if nothing:
            raise ValueError(f"file {str(self.path)!r} is empty, expected text; check how it was made")
        if rest:
            yield self._cleaned(rest)
        if self.invalid_utf8:
            warnings.warn(
                f"{self.invalid_utf8} places of malformed UTF-8 in {str(self.path)!r} were replaced by U+FFFD",
                InvalidUTF8Warning,
                stacklevel=2,
            )

    def _cleaned(self, data: bytes) -> bytes:
        """Return `data` as valid UTF-8 and count it."""
        cleaned, replaced = replace_malformed(data)
        self.bytes += len(cleaned)
        self.invalid_utf8 += replaced
        return cleaned
