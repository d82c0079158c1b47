"""Training and validation texts, split between documents, or inside a single document, in bounded memory."""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bpe.arguments import folder_of
from bpe.files import file_digest, sync, whole_directory
from bpe.text.files import is_compressed, open_text_file
from bpe.text.joining import join_documents
from bpe.text.special_tokens import END_OF_TEXT
from bpe.text.utf8 import StrPath

HOLDOUT_FRACTION = 0.05
CHUNK_BYTES = 1 << 22


def divide(
    train_path: StrPath,
    valid_path: StrPath | None,
    directory: StrPath,
    *,
    valid_bytes: int | None = None,
    separator: str = END_OF_TEXT,
    column: str | None = None,
    notify: Callable[[str], None] | None = None,
    digests: Mapping[Path, str] | None = None,
) -> tuple[Path, Path]:
    """Return a training text and a validation text, creating files only where the given files do not suffice.

    Args:
        train_path: A text file (`.txt`, `.gz`, `.zst`) of documents separated by `separator`; with `column`, a table
            (JSON lines or Parquet); or a folder of such files.
        valid_path: The validation text, in one of the same forms; None holds out the last twentieth of the training
            text, in whole documents; a single document is cut as in `hold_out_documents`.
        directory: Folder for created files; their names contain a digest of the text, so that they are found again.
        valid_bytes: Keep only the first documents of the validation text, up to this many bytes; None keeps all.
        separator: The string between documents.
        column: The column of the texts in tables; None for texts.
        notify: Called with one line for each file that is created or found again.
        digests: Known SHA-256 digests of files, in hexadecimal; the other files are read to name the created files.

    Raises:
        FileNotFoundError: If one of the files does not exist.
        ValueError: If a text cannot be split because it is empty or a single character, the separator is empty, or a
            table cannot be read as `join_documents` reads it.
    """
    _check_separator(separator)
    train_path, directory = Path(train_path), folder_of(directory)
    valid_path = None if valid_path is None else Path(valid_path)
    for path in filter(None, (train_path, valid_path)):
        if not path.is_file() and not path.is_dir():
            raise FileNotFoundError(f"{path}: there is no such file; give the path of a text file")
    report = notify or (lambda line: None)
    known = digests or {}

    def as_text(path: Path) -> Path:
        text = join_documents(path, directory, column=column, separator=separator)
        if text != path:
            report(f"text: all documents of {path}, joined in {text}")
        return text

    train_path = as_text(train_path)
    if valid_path is None:
        whole = train_path
        train_path, valid_path = hold_out_documents(whole, directory, separator=separator, digest=known.get(whole))
        size, rest = valid_path.stat().st_size, train_path.stat().st_size
        how = "whole documents"
        end = _last_bytes(train_path, len(separator.encode()) + 2)
        if not end.removesuffix(b"\n").removesuffix(b"\r").endswith(separator.encode()):
            places = {b"\n": "at the end of a line", b" ": "between two words"}
            where = places.get(end[-1:], "between two characters")
            how = f"cut {where}, because no {separator} divides it into documents"
        report(
            f"validation text: the last {size:,} bytes ({size / (size + rest):.0%}) of {whole}, {how}, held out in "
            f"{valid_path}"
        )
    else:
        valid_path = as_text(valid_path)
    if valid_bytes is not None:
        whole = valid_path
        valid_path = first_documents(
            whole, directory, max_bytes=valid_bytes, separator=separator, digest=known.get(whole)
        )
        if valid_path != whole:
            report(f"validation text: only the first {valid_path.stat().st_size:,} bytes of {whole}")
    return train_path, valid_path


def hold_out_documents(
    path: StrPath,
    directory: StrPath,
    *,
    separator: str = END_OF_TEXT,
    fraction: float = HOLDOUT_FRACTION,
    digest: str | None = None,
) -> tuple[Path, Path]:
    """Split a text into its first documents, for training, and its last documents, for validation.

    Args:
        path: The text.
        directory: Folder for the two files, in a subfolder named by a digest of the text (and of `separator`).
        separator: The string between documents.
        fraction: Approximate share of the bytes for validation, in whole documents and at least one. White space alone
            is not a document. A text that is a single document, such as a book, is cut at the end of a line; a single
            line between two words, and without a space between two characters.
        digest: The SHA-256 of the file in hexadecimal; None computes it.

    Returns:
        The paths of the training text and the validation text.

    Raises:
        ValueError: If `fraction` is outside (0, 1), the separator is empty, or the text is empty or a single character.
    """
    _check_separator(separator)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction!r}, expected a share between 0 and 1, such as 0.05")
    path = Path(path)
    folder = folder_of(directory) / _folder_name(f"held-out-{fraction:g}", path, separator, digest)
    if not folder.exists():
        boundaries = _find_boundaries(path, separator)
        cuts, total = boundaries.between_documents(), boundaries.total
        target = int(total * (1 - fraction))
        cut = cuts[max(0, bisect_right(cuts, target) - 1)] if cuts else _cut_inside(path, boundaries, target)
        if cut is None:
            number = "a single character" if boundaries.last >= 0 else "no text"
            raise ValueError(
                f"{str(path)!r} has {number}, expected a text of which some can be held out for validation; "
                "give a longer one, or a separate validation text"
            )
        with whole_directory(folder) as building:
            _copy(path, building / "train.txt", 0, cut)
            _copy(path, building / "valid.txt", cut, total)
    return folder / "train.txt", folder / "valid.txt"


def first_documents(
    path: StrPath, directory: StrPath, *, max_bytes: int, separator: str = END_OF_TEXT, digest: str | None = None
) -> Path:
    """Return the first documents of a text as a text: as many as fit into `max_bytes`, and at least one.

    A text that is a single document is cut at the end of a line: as many lines as fit, and at least one. A single line
    is cut between words, and without a space between characters.

    Args:
        path: The text.
        directory: Folder for the file, in a subfolder named by a digest of the text (and of `separator`).
        max_bytes: Largest size of the result in bytes of decompressed text.
        separator: The string between documents.
        digest: The SHA-256 of the file in hexadecimal; None computes it.

    Returns:
        `path` itself if all of it fits, else the path of the new file.

    Raises:
        ValueError: If `max_bytes` is below 1, or `separator` is empty.
    """
    _check_separator(separator)
    if max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes!r}, expected 1 or more")
    path = Path(path)
    folder = folder_of(directory) / _folder_name(f"first-{max_bytes}", path, separator, digest)
    if not folder.exists():
        boundaries = _find_boundaries(path, separator)
        if boundaries.total <= max_bytes:
            return path
        cut = _cut_inside(path, boundaries, max_bytes)
        if boundaries.between_documents():
            cuts = boundaries.after_documents()
            cut = cuts[max(0, bisect_right(cuts, max_bytes) - 1)]
        if cut is None:
            return path
        with whole_directory(folder) as building:
            _copy(path, building / "text.txt", 0, cut)
    return folder / "text.txt"


def _check_separator(separator: str) -> None:
    """Refuse an empty separator, which occurs everywhere."""
    if not separator:
        raise ValueError(f"separator is {separator!r}, expected the string between documents, such as {END_OF_TEXT!r}")


def _folder_name(start: str, path: Path, separator: str, digest: str | None) -> str:
    """Return a name for the folder of created files that differs for other bytes of the text and other separators."""
    name = f"{start}-{(digest or file_digest(path))[:16]}"
    if separator == END_OF_TEXT and not is_compressed(path):
        return name  # the name used by all versions, so that existing files are found again
    suffix = path.suffix if is_compressed(path) else ""
    return f"{name}-{hashlib.sha256(json.dumps([separator, suffix]).encode()).hexdigest()[:8]}"


class _Boundaries(NamedTuple):
    """Possible cuts of a text; all offsets are in bytes of decompressed text."""

    ends: array[int]
    """The offset after each separator and its line break."""
    first: int
    """The first byte that is neither white space nor part of a separator; -1 if there is none."""
    last: int
    """The last such byte; -1 if there is none."""
    total: int
    """Size of the text."""

    def after_documents(self) -> array[int]:
        """Return the ends that have a document before them."""
        return self.ends[bisect_right(self.ends, self.first) :] if self.first >= 0 else array("q")

    def between_documents(self) -> array[int]:
        """Return the ends that have documents before and after them."""
        ends = self.after_documents()
        return ends[: bisect_right(ends, self.last)]


def _find_boundaries(path: Path, separator: str) -> _Boundaries:
    """Find the separators of a text, and the first and the last byte of its documents."""
    mark = separator.encode()
    ends = array("q")
    total, tail = 0, b""
    first = last = -1
    for chunk in chain(open_text_file(path, CHUNK_BYTES), [b""]):
        text = tail + chunk
        start = total - len(tail)
        total += len(chunk)
        done, found = 0, 0
        while found >= 0:
            found = text.find(mark, done)
            end = found + len(mark)
            if found >= 0:
                until = found
            elif chunk:  # the last bytes may begin a separator that ends in the next chunk
                until = max(done, len(text) - len(mark) + 1)
            else:
                until = len(text)
            document = text[done:until].rstrip()
            if document:
                last = start + done + len(document) - 1
                first = start + done + len(document) - len(document.lstrip()) if first < 0 else first
            if found < 0 or (chunk and end + 2 > len(text)):
                done = until
                break  # the line break after the separator may be in the next chunk
            done = end + (2 if text.startswith(b"\r\n", end) else text.startswith(b"\n", end))
            ends.append(start + done)
        tail = text[done:]
    return _Boundaries(ends, first, last, total)


def _cut_inside(path: Path, boundaries: _Boundaries, target: int) -> int | None:
    """Return where to cut a single document near `target`, with text before and after the cut; None if it is too short.

    That is after a line break; without any, as in text8, after a space; without both, as in a sequence of DNA or a line
    of Chinese, before a character.
    """
    for cut in (_after_last(b"\n", path, boundaries, target), _after_last(b" ", path, boundaries, target)):
        if cut is not None:
            return cut
    first, last = boundaries.first + 1, boundaries.last
    target = max(first, min(target, last))
    begin, end = max(first, target - 3), min(last, target + 3) + 1  # a character has up to 4 bytes
    data = b"".join(_pieces(path, begin, end))
    starts = [begin + index for index, byte in enumerate(data) if byte & 0xC0 != 0x80]  # no byte inside a character
    return min(starts, key=lambda start: (start > target, abs(start - target)), default=None)


def _after_last(mark: bytes, path: Path, boundaries: _Boundaries, target: int) -> int | None:
    """Return the offset after the last `mark` before `target`, or after the first one; None without any.

    There is text before and after it.
    """
    position, found = 0, None
    for chunk in open_text_file(path, CHUNK_BYTES):
        begin, end = (max(0, offset - position) for offset in (boundaries.first, boundaries.last))
        at = chunk.rfind(mark, begin, min(end, max(0, target - position)))
        if at < 0 and found is None:
            at = chunk.find(mark, begin, end)
        if at >= 0:
            found = position + at + 1
        position += len(chunk)
        if found is not None and position >= target:
            break
    return found


def _last_bytes(path: Path, number: int) -> bytes:
    """Return the last bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - number))
        return file.read()


def _copy(source: Path, target: Path, begin: int, end: int) -> None:
    """Write the bytes from `begin` to `end` of a text, decompressed, to a new file."""
    with target.open("wb") as file:
        file.writelines(_pieces(source, begin, end))
        sync(file)


def _pieces(path: Path, begin: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `begin` to `end` of a text, decompressed."""
    position = 0
    for chunk in open_text_file(path, CHUNK_BYTES):
        yield chunk[max(0, begin - position) : max(0, end - position)]
        position += len(chunk)
        if position >= end:
            break
