"""Writing files so that they are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when it is complete and on the disk.

    Links are followed and stay. Devices and pipes, which cannot be replaced by a file, are written to directly.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    check_file(path)
    # Not of /dev/stdout and its like, which are links to names that are no files.
    target = Path(os.path.realpath(path))
    if path.exists() and not target.is_file():
        with path.open("wb") as file:
            yield file
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            sync(file)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def check_file(path: Path) -> None:
    """Refuse a name that no file can be written under.

    Raises:
        OSError: If it is a folder, or there is no folder to write it into, or one that this user may not write to.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder, expected the name of a file to write; name a file in it")
    target = Path(os.path.realpath(path))
    device = path.exists() and not target.is_file()
    folder = target.parent if path.is_symlink() else path.parent
    if not device and not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r} to write {path.name!r} into; make it first")
    _check_permission(path if device else folder)


def check_folder(path: Path) -> None:
    """Refuse a name that no folder can be made or filled under.

    Raises:
        OSError: If it or what it is to lie in is no folder, or one that this user may not write to.
    """
    there = path
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(
            f"{str(there)!r} is no folder, so nothing can be written to {str(path)!r}; name another"
        )
    _check_permission(there)


def _check_permission(path: Path) -> None:
    """Refuse what this user may not write to."""
    if not os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK):
        raise PermissionError(f"{str(path)!r} may not be written to by this user; name another, or change its mode")


def sync(file: BinaryIO) -> None:
    """Bring what has been written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a whole file of UTF-8 text, with line ends as they are in `text`."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    """Return the mask of this process for new files, which `mkstemp` does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
