"""Reading files that may be compressed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

COMPRESSED_SUFFIXES = (".gz", ".zst")
_PIECE_BYTES = 4096  # of a .zst at a time: four bytes can stand for 128 KiB, so these for 128 MiB at most


def is_compressed(path: Path) -> bool:
    """Say whether the name of a file means that it is to be unpacked."""
    return path.suffix in COMPRESSED_SUFFIXES


def open_text_file(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked when its name ends in .gz or .zst, in chunks of at most `chunk_bytes`.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If the compressed data is damaged, or .zst cannot be read here.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder, expected a file; name a file in it")
    damage: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    if path.suffix == ".zst":
        opened, zstandard_error = _open_zstandard(path)
        damage = (*damage, zstandard_error)
    else:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb", buffering=0)  # noqa: SIM115
    with closing(opened) as file:
        try:
            while chunk := file.read(chunk_bytes):
                yield chunk
        except damage as error:
            raise ValueError(f"file {str(path)!r} cannot be unpacked: {error}; make or fetch it again") from error


def _open_zstandard(path: Path) -> tuple[Any, type[Exception]]:
    """Open a Zstandard file with the standard library where it can do so, else with the `zstandard` package."""
    try:
        from compression import zstd  # Python 3.14

        return zstd.open(path), zstd.ZstdError
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        raise ValueError(f"file {str(path)!r} needs the package zstandard; run: pip install zstandard") from None
    return _ZstandardFile(path, zstandard.ZstdDecompressor()), zstandard.ZstdError


class _ZstandardFile:
    """Reads frames of Zstandard, and unlike the package's own reader notices when the last one is not whole.

    Args:
        path: the file.
        decompressor: a `zstandard.ZstdDecompressor`.
    """

    def __init__(self, path: Path, decompressor: Any) -> None:
        self._file = path.open("rb")
        self._decompressor = decompressor
        self._frame: Any = None
        self._packed, self._plain = b"", b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes of plain text, fewer only at the end.

        Raises:
            EOFError: the file ends inside of a frame.
        """
        parts, missing = [self._plain], size - len(self._plain)
        while missing > 0:
            self._packed = self._packed or self._file.read(_PIECE_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("it ends before its last frame does")
                break
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            parts.append(self._frame.decompress(self._packed))
            missing -= len(parts[-1])
            ended = self._frame.eof
            self._packed = self._frame.unused_data if ended else b""
            if ended:
                self._frame = None
        text = b"".join(parts)
        self._plain = text[size:]
        return text[:size]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
