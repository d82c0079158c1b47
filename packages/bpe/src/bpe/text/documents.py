"""Divides a text of many documents into a training and a validation text, at document borders, in bounded memory."""

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bpe.files import file_digest
from bpe.text.compression import is_compressed, open_text_file

SEPARATOR = "<|endoftext|>"
HOLDOUT_FRACTION = 0.05
CHUNK_BYTES = 1 << 22


def divide(
    train_path: Path,
    valid_path: Path | None,
    directory: Path,
    *,
    valid_bytes: int | None = None,
    separator: str = SEPARATOR,
    notify: Callable[[str], None] | None = None,
    digests: Mapping[Path, str] | None = None,
) -> tuple[Path, Path]:
    """Return a training text and a validation text, making files only where the given ones do not do.

    Args:
        train_path: a text file (`.txt`, `.gz`, `.zst`) of documents separated by `separator`.
        valid_path: the validation text; None holds out the last twentieth of the training text, in whole documents.
        directory: where files that are made are kept; their names carry a digest of the text, so they are found again.
        valid_bytes: keep only the first documents of the validation text, up to this many bytes; None keeps all.
        separator: what stands between documents.
        notify: gets one line for each file that is made or found again.
        digests: the SHA-256, in hexadecimal, of files for which it is known: these are not read for the names.

    Raises:
        FileNotFoundError: one of the files does not exist.
        ValueError: a text cannot be divided, because it is empty or has only one document; or an empty separator.
    """
    _check_separator(separator)
    for path in filter(None, (train_path, valid_path)):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; give the path of a text file")
    tell = notify or (lambda line: None)
    known = digests or {}
    if valid_path is None:
        whole = train_path
        train_path, valid_path = hold_out_documents(whole, directory, separator=separator, digest=known.get(whole))
        tell(f"validation text: the last documents of {whole}, held out in {valid_path}")
    if valid_bytes is not None:
        whole = valid_path
        valid_path = first_documents(
            whole, directory, max_bytes=valid_bytes, separator=separator, digest=known.get(whole)
        )
        if valid_path != whole:
            tell(f"validation text: the first {valid_path.stat().st_size:,} bytes of {whole}, whole documents")
    return train_path, valid_path


def hold_out_documents(
    path: Path,
    directory: Path,
    *,
    separator: str = SEPARATOR,
    fraction: float = HOLDOUT_FRACTION,
    digest: str | None = None,
) -> tuple[Path, Path]:
    """Divide a text into its first documents, for training, and its last ones, for validation.

    Args:
        path: the text.
        directory: where the two files are kept, in a folder named by a digest of the text (and of `separator`).
        separator: what stands between documents.
        fraction: share of the bytes that validation gets, about: in whole documents and at least one; what is only
            white space is no document.
        digest: the SHA-256 of the text's file, if it is known.

    Returns:
        The paths of the training text and the validation text.

    Raises:
        ValueError: a fraction outside of (0, 1), an empty separator, or a text of fewer than two documents.
    """
    _check_separator(separator)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction!r}: expected a share between 0 and 1, such as 0.05")
    made = directory / _folder_name(f"held-out-{fraction:g}", path, separator, digest)
    if not made.exists():
        borders = _borders(path, separator)
        cuts, total = borders.between(), borders.total
        if not cuts:
            number = "one document" if borders.last >= 0 else "no text"
            raise ValueError(
                f"{path} has {number}: expected two or more with {separator} between them, to hold some out for "
                "validation; give a validation text of its own"
            )
        cut = cuts[max(0, bisect_right(cuts, total * (1 - fraction)) - 1)]
        with _appearing(made) as building:
            _copy(path, building / "train.txt", 0, cut)
            _copy(path, building / "valid.txt", cut, total)
    return made / "train.txt", made / "valid.txt"


def first_documents(
    path: Path, directory: Path, *, max_bytes: int, separator: str = SEPARATOR, digest: str | None = None
) -> Path:
    """Return a text of the first documents of another, as many as fit into `max_bytes` and at least one.

    Args:
        path: the text.
        directory: where the file is kept, in a folder named by a digest of the text (and of `separator`).
        max_bytes: size that the result may have, in bytes of plain text.
        separator: what stands between documents.
        digest: the SHA-256 of the text's file, if it is known.

    Returns:
        `path` itself if all of it fits, else the path of the new file.

    Raises:
        ValueError: `max_bytes` is below 1, or `separator` is empty.
    """
    _check_separator(separator)
    if max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes!r}: expected 1 or more")
    made = directory / _folder_name(f"first-{max_bytes}", path, separator, digest)
    if not made.exists():
        borders = _borders(path, separator)
        ends = borders.behind_text()
        if borders.total <= max_bytes or not ends:
            return path
        with _appearing(made) as building:
            _copy(path, building / "text.txt", 0, ends[max(0, bisect_right(ends, max_bytes) - 1)])
    return made / "text.txt"


def _check_separator(separator: str) -> None:
    """Refuse a separator that is nothing, which would be everywhere."""
    if not separator:
        raise ValueError(f"separator is {separator!r}: expected what stands between documents, such as {SEPARATOR!r}")


def _folder_name(start: str, path: Path, separator: str, digest: str | None) -> str:
    """Return the name of the folder for what is made of a text: another for other bytes, and for another reading."""
    name = f"{start}-{(digest or file_digest(path))[:16]}"
    if separator == SEPARATOR and not is_compressed(path):
        return name  # as it has always been, so that what has been made is found again
    suffix = path.suffix if is_compressed(path) else ""
    return f"{name}-{hashlib.sha256(json.dumps([separator, suffix]).encode()).hexdigest()[:8]}"


class _Borders(NamedTuple):
    """Where a text may be cut: all offsets are in bytes of plain text."""

    ends: array
    """The offset behind every separator and its line end."""
    first: int
    """The first byte that is neither white space nor of a separator; -1 if there is none, as `last`."""
    last: int
    total: int

    def behind_text(self) -> array:
        """Return the ends that have text before them."""
        return self.ends[bisect_right(self.ends, self.first) :] if self.first >= 0 else array("q")

    def between(self) -> array:
        """Return the ends that have text before them and behind them."""
        ends = self.behind_text()
        return ends[: bisect_right(ends, self.last)]


def _borders(path: Path, separator: str) -> _Borders:
    """Find the separators of a text, and where what stands between them begins and ends."""
    mark = separator.encode()
    ends = array("q")
    total, tail = 0, b""
    first = last = -1
    for chunk in chain(open_text_file(path, CHUNK_BYTES), [b""]):
        text = tail + chunk
        start = total - len(tail)
        total += len(chunk)
        behind, found = 0, 0
        while found >= 0:
            found = text.find(mark, behind)
            end = found + len(mark)
            # Where none is found, the beginning of one may stand at the end.
            until = found if found >= 0 else max(behind, len(text) - len(mark) + 1) if chunk else len(text)
            piece = text[behind:until].rstrip()
            if piece:
                last = start + behind + len(piece) - 1
                first = start + behind + len(piece) - len(piece.lstrip()) if first < 0 else first
            if found < 0 or (chunk and end + 2 > len(text)):
                behind = until
                break  # its line end may stand in the next chunk
            behind = end + _line_end(text[end : end + 2])
            ends.append(start + behind)
        tail = text[behind:]
    return _Borders(ends, first, last, total)


def _line_end(text: bytes) -> int:
    """Return how many bytes of line end a text begins with."""
    return 2 if text == b"\r\n" else int(text[:1] == b"\n")


def _copy(source: Path, target: Path, begin: int, end: int) -> None:
    """Write the bytes from `begin` to `end` of a text, unpacked, to a new file."""
    position = 0
    with target.open("wb") as file:
        for chunk in open_text_file(source, CHUNK_BYTES):
            file.write(chunk[max(0, begin - position) : max(0, end - position)])
            position += len(chunk)
            if position >= end:
                break
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """A directory to fill, which takes its name when it is complete, or never.

    Where another process has made the same one in the meantime, that stays.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        building.chmod(directory.parent.stat().st_mode)  # that of mkdtemp keeps other users out
        yield building
        try:
            building.rename(directory)
        except OSError:
            if not directory.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
