"""Text files, plain or compressed, and columns of tables: which files to read, and their text in blocks."""

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

from bpe.text.blocks import BLOCK_BYTES, Block
from bpe.text.rows import TABLE_SUFFIXES, is_parquet, is_table, read_json_lines, read_parquet
from bpe.text.utf8 import StrPath, utf8, warn_of_replacements

if TYPE_CHECKING:
    from bpe.text.blocks import BlockCutter

TEXT_SUFFIXES = (".txt", ".gz", ".zst")
COMPRESSED_SUFFIXES = (".gz", ".zst")
_BESIDE_MERGES = ("vocab.json", "tokenizer.json")
_BEGIN_BYTES = 265
_BINARY = (
    (rb"\x1f\x8b", "compressed with gzip", "give it a name that ends in .gz"),
    (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard", "give it a name that ends in .zst"),
    (rb"BZh[1-9]1AY&", "compressed with bzip2", "decompress it, or use gzip or Zstandard"),
    (rb"\xfd7zXZ\x00", "compressed with xz", "decompress it, or use gzip or Zstandard"),
    (rb"\x04\x22\x4d\x18", "compressed with LZ4", "decompress it, or use gzip or Zstandard"),
    (rb"\x1f\x9d", "compressed with compress", "decompress it, or use gzip or Zstandard"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (rb"(?s:.{257})ustar(?:  )?\x00", "a tar archive", "unpack it"),
    (rb"PAR1\x15", "a Parquet file", "give it a name that ends in .parquet, and name its column, as in column='text'"),
    (rb"ARROW1\x00\x00", "an Arrow file", "write it as Parquet, or pass its texts to train_from_iterator"),
    (rb"\x93NUMPY", "a NumPy array", "give the text itself"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", "give the text itself"),
    (rb"SQLite format 3\x00", "a SQLite database", "pass its texts to train_from_iterator"),
    (rb"%PDF-", "a PDF file", "extract its text"),
    (rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a", "an image", "leave it out"),
    (rb"\x7fELF", "a program", "leave it out"),
    (rb"bpe-counts \d+\n", "counts of pre-tokens", "pass it to train_from_counts or --from-counts"),
)
"""Patterns of the first bytes of files that are no text, what they are, and what to do."""


def find_files(paths: StrPath | Iterable[StrPath], column: str | None = None) -> list[Path]:
    """Return the files that `paths` name: files as they are; folders are searched for texts, sorted.

    The names of texts end in .txt, .gz or .zst; those of tables with a `column` in .jsonl, .ndjson (.gz, .zst),
    .json.gz, .json.zst or .parquet. Hidden files and folders are left out, and so is the merges.txt of a tokenizer. A
    file with several links counts once.

    Raises:
        FileNotFoundError: If a path does not exist.
        TypeError: If a path is an open file, bytes, or of another type.
        ValueError: If there is no path, a path is an empty string, or a folder has no text file.
    """
    is_one = isinstance(paths, str | bytes | PathLike) or hasattr(paths, "read") or not isinstance(paths, Iterable)
    items: Any = [paths] if is_one else paths
    suffixes = TEXT_SUFFIXES if column is None else TABLE_SUFFIXES
    advice = "name a file, or a column if it has .jsonl or .parquet" if column is None else "name a file, or no column"
    files: list[Path] = []
    for item in items:
        path = _checked_path(item, "paths is" if is_one else "paths has")
        if path.is_dir():
            found = _texts_in(path, suffixes)
            if not found:
                raise ValueError(f"folder {str(path)!r} has no file ending in {', '.join(suffixes)}; {advice}")
            files.extend(found)
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if not files:
        raise ValueError("paths is empty, expected at least one file or folder; name one")
    return files


def _checked_path(path: Any, begin: str) -> Path:
    """Return a path, or refuse anything else with a message of this beginning."""
    if hasattr(path, "read"):
        raise TypeError(f"{begin} an open file, expected its name; or pass its text to train_from_iterator")
    if isinstance(path, bytes):
        raise TypeError(f"{begin} {path!r}, expected a str or a Path; write os.fsdecode({path!r})")
    if not isinstance(path, str | PathLike):
        raise TypeError(f"{begin} a {type(path).__name__}, expected a str or a Path")
    if path == "":  # Path("") would be the current folder
        raise ValueError("paths has an empty string, expected a file or a folder; is a variable unset?")
    return Path(path)


def _texts_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the text files below a folder, sorted: no hidden ones, and each file once, whatever links to it."""
    found: dict[tuple[int, int], Path] = {}
    for file in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not is_hidden and file.name.lower().endswith(suffixes) and file.is_file() and not _is_merges(file):
            status = file.stat()
            found.setdefault((status.st_dev, status.st_ino), file)
    return list(found.values())


def _is_merges(path: Path) -> bool:
    """Return whether a file is the merges.txt of a tokenizer, by its name and the files beside it."""
    return path.name == "merges.txt" and any(path.with_name(name).is_file() for name in _BESIDE_MERGES)


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return path.suffix.lower() in COMPRESSED_SUFFIXES


def _check_name(path: Path, column: str | None) -> None:
    """Refuse an archive, and a table without a column, by its name.

    Raises:
        ValueError: If it is such a file.
    """
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.zst")):
        raise ValueError(f"file {str(path)!r} is an archive, expected text; unpack it")
    if column is None and is_table(path):
        raise ValueError(
            f"file {str(path)!r} has rows, expected text; name the column of its texts, as in column='text' or "
            "--column text, or write them to a text file"
        )


def _check_begin(path: Path, begin: bytes) -> None:
    """Refuse a file that is no text by its first bytes, which no text begins with.

    Raises:
        ValueError: If it is such a file.
    """
    for first, kind, advice in _BINARY:
        if re.match(first, begin):
            raise ValueError(f"file {str(path)!r} is {kind}, expected text; {advice}")


def open_text_file(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a text file in chunks of at most `chunk_bytes`; files named .gz or .zst are decompressed.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If it is no text, its compressed data is damaged, or Zstandard is not installed.
    """
    _check_name(path, None)
    return _chunks(path, chunk_bytes)


def _chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks, decompressed."""
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder, expected a file; name a file in it")
    damage: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    opened: Any
    if path.suffix.lower() == ".zst":
        opened, zstandard_error = _open_zstandard(path)
        damage = (*damage, zstandard_error)
    else:
        opened = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb", buffering=0)  # noqa: SIM115
    with opened as file:
        try:
            is_first = True
            while chunk := file.read(chunk_bytes):
                if is_first:
                    _check_begin(path, chunk[:_BEGIN_BYTES])
                is_first = False
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
    """A text file, plain or compressed, that counts the bytes read and the malformed sequences replaced.

    With a `column` it is a table: each string in that column is a document. Files named .parquet are Parquet, and all
    others JSON lines.
    """

    def __init__(self, path: StrPath, column: str | None = None) -> None:
        """Check the name of the file, without opening it.

        Raises:
            ValueError: If it is an archive, or a table and there is no column.
        """
        self.path = Path(path)
        self.column = column
        self.bytes = 0
        self.invalid_utf8 = 0
        _check_name(self.path, column)

    @property
    def is_packed(self) -> bool:
        """True if the file is compressed, so that its text is larger."""
        return is_compressed(self.path) or is_parquet(self.path)

    def known_bytes(self) -> int | None:
        """Return the number of bytes of text, or None if it is unknown before the file has been read."""
        if self.column is not None or self.is_packed or not self.path.is_file():
            return None
        return self.path.stat().st_size

    def blocks(
        self, cutter: BlockCutter, block_bytes: int = BLOCK_BYTES, *, may_be_empty: bool = False
    ) -> Iterator[Block]:
        """Yield the text in blocks; line ends and a byte-order mark stay as they are.

        Between the documents of a table the blocks have spans with index -1, which no pre-token crosses.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is empty and must not be, its compressed data is damaged, it is no text, or a row of the
                table has no string in the column.
        """
        empty = True
        blocks: Iterator[Block]
        if self.column is not None:
            documents = (Block(utf8(text)) for text in self.documents(block_bytes) if text)
            blocks = (block for block, _ in cutter.blocks_of_texts(documents, block_bytes))
        elif (mapped := self._mapped()) is not None:
            blocks = cutter.blocks_of(mapped, block_bytes)
        else:
            blocks = cutter.blocks(_chunks(self.path, block_bytes), block_bytes)
        for block in blocks:
            empty = False
            yield block
        if empty and not may_be_empty:
            raise ValueError(f"file {str(self.path)!r} is empty, expected text; check how it was made")

    def documents(self, chunk_bytes: int = BLOCK_BYTES) -> Iterator[str]:
        """Yield the strings of a table in its column, one for each row.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If there is no column, the data is damaged, or a row has no string in the column.
        """
        if self.column is None:
            raise ValueError(f"file {str(self.path)!r} is read as a text, expected a table; name a column")
        if is_parquet(self.path):
            return read_parquet(self.path, self.column)
        return read_json_lines(self.path, _chunks(self.path, chunk_bytes), self.column)

    def _mapped(self) -> memoryview | None:
        """Map the file into memory, or return None where it must be read as a stream."""
        if is_compressed(self.path) or not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            try:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (ValueError, OSError):  # a file without a size, as in /proc, or a file system without mapping
                return None
        _check_begin(self.path, bytes(mapped[:_BEGIN_BYTES]))
        return mapped

    def record(self, size: int, replaced: int) -> None:
        """Add the bytes of a processed block and the number of malformed sequences replaced in it."""
        self.bytes += size
        self.invalid_utf8 += replaced

    def warn(self) -> None:
        """Warn after reading if malformed UTF-8 was replaced, or if there was no text."""
        if not self.bytes:
            warnings.warn(f"file {str(self.path)!r} is empty, and was skipped", UserWarning, stacklevel=3)
        warn_of_replacements(self.invalid_utf8, repr(str(self.path)), stacklevel=3)
