"""Writing what torch writes, and checking what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Any, cast

import torch


def save_torch(content: object, file: IO[bytes]) -> None:
    """`torch.save` into an open file, whose own error is raised when it cannot be written.

    Raises:
        OSError: there is no room; torch by itself would raise a RuntimeError about positions.
    """
    watched = _WatchedFile(file)
    try:
        torch.save(content, cast(IO[bytes], watched))
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise


class _WatchedFile:
    """Passes bytes on to a file and remembers why it did not take them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def checksum(path: Path) -> tuple[int, str]:
    """Return the bytes and the checksum of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
