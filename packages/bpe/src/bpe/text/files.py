"""Text files, plain or compressed with gzip or Zstandard: which to read, and their content in blocks."""

from __future__ import annotations

import gzip
import mmap
import warnings
import zlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.errors import InvalidUTF8Warning
from bpe.text.blocks import BLOCK_BYTES, Block
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.text.blocks import BlockCutter

TEXT_SUFFIXES = (".txt", ".gz", ".zst")
COMPRESSED_SUFFIXES = (".gz", ".zst")
_BESIDE_MERGES = ("vocab.json", "tokenizer.json")


def find_files(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return the files that `paths` name: files as they are; folders are searched for .txt, .gz and .zst, sorted.

    The merges.txt of a tokenizer in such a folder is not a text.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no path, or a folder has no text file.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | PathLike) else paths:
        path = Path(path)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if _is_text(file))
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


def _is_text(path: Path) -> bool:
    """Return whether a path in a folder is a text file, by its name and the files beside it."""
    if path.suffix not in TEXT_SUFFIXES or not path.is_file():
        return False
    return path.name != "merges.txt" or not any(path.with_name(name).is_file() for name in _BESIDE_MERGES)


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return path.suffix in COMPRESSED_SUFFIXES


def open_text_file(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks of at most `chunk_bytes`; files named .gz or .zst are decompressed.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If the compressed data is damaged, or Zstandard is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder, expected a file; name a file in it")
    damage: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    opened: Any
    if path.suffix == ".zst":
        opened, zstandard_error = _open_zstandard(path)
        damage = (*damage, zstandard_error)
    else:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb", buffering=0)  # noqa: SIM115
    with opened as file:
        try:
            while chunk := file.read(chunk_bytes):
                yield chunk
        except damage as error:
            raise ValueError(f"file {str(path)!r} cannot be decompressed: {error}; make or fetch it again") from error


def _open_zstandard(path: Path) -> tuple[Any, type[Exception]]:
    """Open a Zstandard file; also return the type of the error for damaged data."""
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ValueError(
                f"file {str(path)!r} needs Zstandard, which is not installed; run: pip install backports.zstd"
            ) from None
    return zstd.open(path), zstd.ZstdError


class TextFile:
    """A text file, plain or compressed, that counts the bytes read and the malformed sequences replaced."""

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
        empty = True
        mapped = self._mapped()
        blocks = (
            cutter.blocks(open_text_file(self.path, block_bytes), block_bytes)
            if mapped is None
            else cutter.blocks_of(mapped, block_bytes)
        )
        for block in blocks:
            empty = False
            yield block
        if empty:
            raise ValueError(f"file {str(self.path)!r} is empty, expected text; check how it was made")

    def _mapped(self) -> memoryview | None:
        """Map the file into memory, or return None where it must be read as a stream."""
        if is_compressed(self.path) or not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            try:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (ValueError, OSError):  # a file without a size, as in /proc, or a file system without mapping
                return None

    def record(self, size: int, replaced: int) -> None:
        """Add the bytes of a processed block and the number of malformed sequences replaced in it."""
        self.bytes += size
        self.invalid_utf8 += replaced

    def warn(self) -> None:
        """Warn after reading if malformed UTF-8 was replaced."""
        if self.invalid_utf8:
            sequences = "sequence" if self.invalid_utf8 == 1 else "sequences"
            warnings.warn(
                f"{self.invalid_utf8:,} malformed UTF-8 {sequences} in {str(self.path)!r} replaced by U+FFFD",
                InvalidUTF8Warning,
                stacklevel=3,
            )
