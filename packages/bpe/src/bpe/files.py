"""Files and folders that are written completely or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where leftovers of killed processes stay
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when it is complete and on the disk.

    What killed processes left of earlier attempts is deleted. Links are followed and kept. Devices and pipes, which a
    file cannot replace, are written to directly.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    check_file(path)
    # Resolved only for files: /dev/stdout and its like are links to names that are not files.
    target = Path(os.path.realpath(path))
    if path.exists() and not target.is_file():
        with path.open("wb") as file:
            yield file
        return
    _delete_leftovers(target)
    temporary, unfinished = _new_file(target)
    try:
        with unfinished:
            yield unfinished
            sync(unfinished)
            if fcntl is None:
                unfinished.close()  # Windows does not rename open files
            temporary.replace(target)  # while the lock is held, or another process could take it for a leftover
        _sync_folder(target.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Create a folder to fill, which takes its name only when it is complete; parent folders are created.

    What killed processes left of earlier attempts is deleted. If another process creates the same folder in the
    meantime, the other one stays.

    Raises:
        OSError: If the parent folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(path)
    temporary, handle = _new_folder(path)
    try:
        temporary.chmod(path.parent.stat().st_mode)  # readable by everyone who can read the parent folder
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():
                raise
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _new_file(target: Path) -> tuple[Path, BinaryIO]:
    """Create and lock a hidden file beside a target; return its path and the open file."""
    while True:
        temporary = _temporary_name(target)
        file = temporary.open("x+b")
        if _is_ours(temporary, file.fileno()):
            return temporary, file
        file.close()


def _new_folder(target: Path) -> tuple[Path, int | None]:
    """Create and lock a hidden folder beside a target; return its path and the handle that holds the lock."""
    while True:
        temporary = _temporary_name(target)
        temporary.mkdir()
        if fcntl is None:
            return temporary, None
        with suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY)
            if _is_ours(temporary, handle):
                return temporary, handle
            os.close(handle)


def _temporary_name(target: Path) -> Path:
    """Return an unused hidden name beside a target."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")


def _is_ours(path: Path, handle: int) -> bool:
    """Lock a new file or folder; return whether it is still there, and was not taken for a leftover meanwhile.

    The system releases the lock when this process ends, however it ends.
    """
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks, on which nothing is taken for a leftover
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _delete_leftovers(target: Path) -> None:
    """Delete the hidden files and folders of this target that no process has locked: their makers were killed."""
    if fcntl is None or not target.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.partial")
    for path in [path for path in target.parent.iterdir() if name.fullmatch(path.name)]:
        with suppress(OSError):  # locked, or deleted by another process, or of another user
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(handle)


def check_file(path: Path) -> None:
    """Refuse a name under which no file can be written.

    Raises:
        OSError: If the name is a folder, or its folder does not exist or cannot be written to by this user.
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
    """Refuse a name under which no folder can be created or filled.

    Raises:
        OSError: If the name or a parent is not a folder, or cannot be written to by this user.
    """
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(
            f"{str(existing)!r} is not a folder, so nothing can be written to {str(path)!r}; name another"
        )
    _check_permission(existing)


def _check_permission(path: Path) -> None:
    """Refuse a path that this user may not write to."""
    if not os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK):
        raise PermissionError(
            f"this user may not write to {str(path)!r}; name another file or folder, or change its mode"
        )


def sync(file: BinaryIO) -> None:
    """Flush a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can do so."""
    if os.name != "posix":
        return
    with suppress(OSError):  # some file systems cannot flush folders; the file itself is on the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file; line ends stay as they are in `text`."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
