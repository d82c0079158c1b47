"""Files that are either complete or absent."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

IS_WINDOWS = os.name == "nt"
_UNABLE = (errno.EINVAL, errno.ENOTSUP)  # errors of network file systems that cannot flush a folder
_PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file aside, flush it to the disk and rename it into place; a crash leaves the old one or the new one.

    Raises:
        OSError: If the folder is missing, read-only or full; nothing is left behind.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name when the block ends without an error, or not at all.

    Raises:
        OSError: If the folder is missing, read-only or full; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{threading.get_ident()}")
    try:
        with naming(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, unless it exists.

    Raises:
        OSError: If it cannot be created; the message names the link or file that is in the way.
    """
    with creating(directory):
        directory.mkdir(parents=True, exist_ok=True)


@contextmanager
def creating(directory: Path) -> Iterator[None]:
    """Explain an error of this block if its cause is that a directory does not exist and cannot be created."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        failed, wanted = Path(os.fsdecode(error.filename)).absolute(), directory.absolute()
        if wanted not in (failed, *failed.parents) and failed not in wanted.parents:
            raise
        if _is_directory(directory):
            raise
        message = f"cannot create the directory {directory}: {obstacle(directory, error)}; choose another one"
        raise explained(error, message) from error


def obstacle(directory: Path, error: OSError) -> str:
    """Return why a directory could not be created, or not be written."""
    for place in (directory, *directory.parents):
        with suppress(PermissionError):  # a parent may not be entered
            if place.is_symlink() and not place.exists():
                return f"{place} is a link to {place.readlink()}, which does not exist"
            if place.is_dir():
                return str(error.strerror) if place == directory else f"{error.strerror} in {place}"
            if place.exists():
                return f"{place} is a file, not a directory"
    return str(error.strerror)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # a parent may not be entered
        return False


def move(source: Path, target: Path) -> None:
    """Rename a file, which may replace another one, or a folder.

    Windows refuses this while a program has the file, or one in the folder, open. Virus scanners and indexers do so for
    a moment with whatever is new, so that there it is tried again for a while.

    Raises:
        OSError: If it cannot be renamed.
    """
    for seconds in _PAUSES if IS_WINDOWS else ():
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    source.replace(target)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to errors of open files, such as a full disk, which lack it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def explained(error: OSError, message: str) -> OSError:
    """Return an error of the same type and number with another message."""
    other = type(error)(message)
    other.errno = error.errno
    return other


def sync_file(path: Path) -> None:
    """Flush a written file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush a folder's entries to the disk, where the system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(descriptor)
