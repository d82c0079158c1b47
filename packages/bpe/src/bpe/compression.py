"""Reading files that may be compressed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

COMPRESSED_SUFFIXES = (".gz", ".zst")


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
    return zstandard.open(path, "rb"), zstandard.ZstdError
