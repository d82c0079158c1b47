"""Divides a text of many documents into a training and a validation text, at document borders, in bounded memory."""

import os
import shutil
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from bpe.compression import open_text_file
from bpe.files import file_digest

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
        ValueError: a text cannot be divided, because it is empty or has only one document.
    """
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
        directory: where the two files are kept, in a folder named by a digest of the text.
        separator: what stands between documents.
        fraction: share of the bytes that validation gets, about: in whole documents and at least one.
        digest: the SHA-256 of the text's file, if it is known.

    Returns:
        The paths of the training text and the validation text.

    Raises:
        ValueError: a fraction outside of (0, 1), or a text of fewer than two documents.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction!r}: expected a share between 0 and 1, such as 0.05")
    made = directory / f"held-out-{fraction:g}-{(digest or file_digest(path))[:16]}"
    if not made.exists():
        ends, total = _document_ends(path, separator)
        cuts = [end for end in ends if end < total]
        if not cuts:
            raise ValueError(
                f"{path} has {'one document' if total else 'no text'}: expected two or more with {separator} between "
                "them, to hold some out for validation; give a validation text of its own"
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
        directory: where the file is kept, in a folder named by a digest of the text.
        max_bytes: size that the result may have, in bytes of plain text.
        separator: what stands between documents.
        digest: the SHA-256 of the text's file, if it is known.

    Returns:
        `path` itself if all of it fits, else the path of the new file.

    Raises:
        ValueError: `max_bytes` is below 1.
    """
    if max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes!r}: expected 1 or more")
    made = directory / f"first-{max_bytes}-{(digest or file_digest(path))[:16]}"
    if not made.exists():
        ends, total = _document_ends(path, separator)
        if total <= max_bytes or not ends:
            return path
        with _appearing(made) as building:
            _copy(path, building / "text.txt", 0, ends[max(0, bisect_right(ends, max_bytes) - 1)])
    return made / "text.txt"


def _document_ends(path: Path, separator: str) -> tuple[array, int]:
    """The offset behind every separator and its line end, and the size of the text, both in bytes of plain text."""
    mark = separator.encode()
    ends = array("q")
    total, tail = 0, b""
    for chunk in chain(open_text_file(path, CHUNK_BYTES), [b""]):
        text = tail + chunk
        start = total - len(tail)
        total += len(chunk)
        behind = 0
        while (found := text.find(mark, behind)) >= 0:
            end = found + len(mark)
            if end == len(text) and chunk:
                break  # its line end may stand in the next chunk
            behind = end + (text[end : end + 1] == b"\n")
            ends.append(start + behind)
        tail = text[found:] if found >= 0 else text[max(behind, len(text) - len(mark) + 1) :]
    return ends, total


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
