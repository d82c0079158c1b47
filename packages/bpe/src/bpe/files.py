"""Files and folders that are written completely or not at all.

Until it is complete, a file or folder has a hidden name that ends in `.partial`, and its process holds a lock on it. A
process that is killed leaves it behind without the lock. The next process on the same machine that writes to the same
name then removes it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when it is complete and on the disk.

    Links are followed and kept. Devices and pipes, which a file cannot replace, are written to directly.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    check_file(path)
    # Resolved only for files: /dev/stdout and its like are links to names that are not files.
    if path.exists() and not Path(os.path.realpath(path)).is_file():
        with path.open("wb") as file:
            yield file
        return
    with whole_files([path]) as files:
        yield files[0]


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[Sequence[BinaryIO]]:
    """Open binary files that take their names, in this order, only when all of them are complete and on the disk.

    After a failure the earlier files of these names are as before. Links are followed and kept.

    Raises:
        OSError: If a folder does not exist or cannot be written to.
    """
    for path in paths:
        check_file(path)
    targets = [Path(os.path.realpath(path)) for path in paths]
    with ExitStack() as stack:
        temporaries = [stack.enter_context(_temporary(target, _create_file)) for target in targets]
        files = [stack.enter_context(temporary.open("r+b")) for temporary in temporaries]
        yield files
        for file in files:
            sync(file)
            file.close()
        _replace(temporaries, targets)
        for folder in {target.parent for target in targets}:
            _sync_folder(folder)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Create a folder to fill, which takes its name only when it is complete; parent folders are created.

    If another process creates the same folder in the meantime, the other one stays.

    Raises:
        OSError: If the parent folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, Path.mkdir) as temporary:
        temporary.chmod(path.parent.stat().st_mode)  # readable by everyone who can read the parent folder
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():
                raise
        _sync_folder(path.parent)


@contextmanager
def _temporary(target: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    """Create a locked file or folder under a hidden name beside `target`; finally remove it, unless it was renamed."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.{_machine()}.*.partial"):
        _remove_leftover(leftover)
    while True:
        temporary = _temporary_name(target)
        create(temporary)
        lock = _lock(temporary, wait=True)
        if temporary.exists():
            break
        if lock is not None:  # another process took it for a leftover before it was locked
            os.close(lock)
    try:
        yield temporary
    finally:
        _remove(temporary)
        if lock is not None:
            os.close(lock)


def _temporary_name(target: Path) -> Path:
    """Return an unused hidden name beside a path."""
    return target.with_name(f".{target.name}.{_machine()}.{os.urandom(4).hex()}.partial")


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return a short name of this machine: locks of other machines may be invisible on a network file system."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _create_file(path: Path) -> None:
    """Create an empty file, which must not exist yet."""
    path.touch(exist_ok=False)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Open and lock a file or folder; return None if it is locked by another process, or cannot be locked at all.

    The system releases the lock when the process ends, however it ends.
    """
    if os.name != "posix":
        return None
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_leftover(path: Path) -> None:
    """Remove a temporary file or folder if the process that made it has ended."""
    lock = _lock(path, wait=False)
    if lock is not None:
        _remove(path)
        os.close(lock)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replace(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename all files in order; if one fails, undo the others."""
    begun: list[tuple[Path, Path, Path]] = []
    try:
        for temporary, target in zip(temporaries[:-1], targets[:-1], strict=True):
            earlier = _temporary_name(target)
            begun.append((temporary, target, earlier))
            with suppress(FileNotFoundError):
                target.rename(earlier)
            temporary.replace(target)
        temporaries[-1].replace(targets[-1])
    except BaseException:
        for temporary, target, earlier in begun if temporaries[-1].exists() else ():
            if earlier.exists():
                earlier.replace(target)
            elif not temporary.exists():
                target.unlink(missing_ok=True)
        raise
    finally:
        for _, _, earlier in begun:
            earlier.unlink(missing_ok=True)


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
