"""Text files, plain or compressed with gzip or Zstandard: which to read, and their content in blocks."""

from __future__ import annotations

import gzip
import mmap
import re
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
_BINARY = (
    (rb"\x1f\x8b", "compressed with gzip", "give it a name that ends in .gz"),
    (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard", "give it a name that ends in .zst"),
    (rb"BZh[1-9]1AY&", "compressed with bzip2", "decompress it, or use gzip or Zstandard"),
    (rb"\xfd7zXZ\x00", "compressed with xz", "decompress it, or use gzip or Zstandard"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"PAR1\x15", "a Parquet file", "write its text column to a text file"),
    (rb"\x93NUMPY", "a NumPy array", "give the text itself"),
)
"""Patterns of the first bytes of files that are no text, what they are, and what to do."""


def find_files(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return the files that `paths` name: files as they are; folders are searched for .txt, .gz and .zst, sorted.

    Hidden files and folders are left out, and so is the merges.txt of a tokenizer. A file with several links counts
    once.

    Raises:
        FileNotFoundError: If a path does not exist.
        TypeError: If `paths` is an open file or bytes.
        ValueError: If there is no path, a path is an empty string, or a folder has no text file.
    """
    if hasattr(paths, "read"):
        raise TypeError("paths is an open file, expected its name; or pass its text to train_from_iterator")
    if isinstance(paths, bytes):
        raise TypeError(f"paths is {paths!r}, expected a str or a Path; write os.fsdecode({paths!r})")
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | PathLike) else paths:
        if path == "":  # Path("") would be the current folder
            raise ValueError("paths has an empty string, expected a file or a folder; is a variable unset?")
        path = Path(path)
        if path.is_dir():
            found = _texts_in(path)
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


def _texts_in(folder: Path) -> list[Path]:
    """Return the text files below a folder, sorted: no hidden ones, and each file once, whatever links to it."""
    found: dict[Path, Path] = {}
    for file in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not is_hidden and _is_text(file):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _is_text(path: Path) -> bool:
    """Return whether a path in a folder is a text file, by its name and the files beside it."""
    if path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
        return False
    return path.name != "merges.txt" or not any(path.with_name(name).is_file() for name in _BESIDE_MERGES)


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return path.suffix.lower() in COMPRESSED_SUFFIXES


def _refuse_binary(path: Path) -> None:
    """Refuse a file that is no text by its first bytes, which no text begins with, or an archive by its name.

    Raises:
        ValueError: If it is such a file.
    """
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz", ".tar.zst")):
        raise ValueError(f"file {str(path)!r} is an archive, expected text; unpack it")
    if is_compressed(path) or not path.is_file():  # a pipe must not be read here
        return
    with path.open("rb") as file:
        begin = file.read(8)
    for first, kind, advice in _BINARY:
        if re.match(first, begin):
            raise ValueError(f"file {str(path)!r} is {kind}, expected text; {advice}")


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
    _refuse_binary(path)
    damage: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    opened: Any
    if path.suffix.lower() == ".zst":
        opened, zstandard_error = _open_zstandard(path)
        damage = (*damage, zstandard_error)
    else:
        opened = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb", buffering=0)  # noqa: SIM115
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

    def blocks(
        self, cutter: BlockCutter, block_bytes: int = BLOCK_BYTES, *, may_be_empty: bool = False
    ) -> Iterator[Block]:
        """Yield the text in blocks; line ends and a byte-order mark stay as they are.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is empty and must not be, or its compressed data is damaged.
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
        if empty and not may_be_empty:
            raise ValueError(f"file {str(self.path)!r} is empty, expected text; check how it was made")

    def _mapped(self) -> memoryview | None:
        """Map the file into memory, or return None where it must be read as a stream."""
        if is_compressed(self.path) or not self.path.is_file():
            return None
        _refuse_binary(self.path)
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
        """Warn after reading if malformed UTF-8 was replaced, or if there was no text."""
        if not self.bytes:
            warnings.warn(f"file {str(self.path)!r} is empty, and was skipped", UserWarning, stacklevel=3)
        if self.invalid_utf8:
            sequences = "sequence" if self.invalid_utf8 == 1 else "sequences"
            warnings.warn(
                f"{self.invalid_utf8:,} malformed UTF-8 {sequences} in {str(self.path)!r} replaced by U+FFFD",
                InvalidUTF8Warning,
                stacklevel=3,
            )
