"""Reading a text file block by block: mapped into memory if it is plain, as a stream if it is compressed."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.errors import InvalidUTF8Warning
from bpe.text.blocks import BLOCK_BYTES, Block
from bpe.text.compression import is_compressed, open_text_file
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.text.blocks import BlockCutter


class TextFile:
    """A text file, plain or compressed; counts the bytes read and the places of malformed UTF-8 replaced."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.bytes = 0
        self.invalid_utf8 = 0

    def blocks(self, cutter: BlockCutter, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield the text in blocks; line ends and a byte-order mark stay as they are.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is empty, or its compressed data is damaged.
        """
        nothing = True
        mapped = self._mapped()
        blocks = (
            cutter.blocks(open_text_file(self.path, block_bytes), block_bytes)
            if mapped is None
            else cutter.blocks_of(mapped, block_bytes)
        )
        for block in blocks:
            nothing = False
            yield block
        if nothing:
            raise ValueError(f"file {str(self.path)!r} is empty, expected text; check how it was made")

    def _mapped(self) -> memoryview | None:
        """Return the file mapped into memory, or None where it has to be read as a stream."""
        if is_compressed(self.path) or not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            try:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (ValueError, OSError):  # no size, as files of /proc, or a file system without mapping
                return None

    def took(self, size: int, replaced: int) -> None:
        """Count what has become of a block: its bytes, and the U+FFFD put in for malformed UTF-8."""
        self.bytes += size
        self.invalid_utf8 += replaced

    def warn(self) -> None:
        """Warn, once it has been read, if anything was replaced."""
        if self.invalid_utf8:
            warnings.warn(
                f"{self.invalid_utf8} places of malformed UTF-8 in {str(self.path)!r} were replaced by U+FFFD",
                InvalidUTF8Warning,
                stacklevel=3,
            )
