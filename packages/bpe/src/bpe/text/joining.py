"""One text out of the rows of a table or the files of a folder, with a separator after each document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bpe.arguments import folder_of
from bpe.files import file_digest, sync, whole_directory
from bpe.text.files import TextFile, find_files, open_text_file
from bpe.text.special_tokens import END_OF_TEXT
from bpe.text.utf8 import StrPath, utf8

_CHUNK_BYTES = 1 << 22
_WHITE_SPACE = 16  # bytes after the last separator of a file, such as line breaks


def join_documents(
    path: StrPath, directory: StrPath, *, column: str | None = None, separator: str = END_OF_TEXT
) -> Path:
    """Return a text of the documents in a table or a folder, written in bounded memory; a text file is one already.

    Each row of a table is a document, and so is each text file of a folder, unless separators divide it. Nothing but
    separators is added.

    Args:
        path: A text file, a table (JSON lines or Parquet), or a folder of one kind of them, read in the order of names.
        directory: Folder for the text, in a subfolder named by a digest of the files, `column` and `separator`.
        column: The column of the texts in tables; None for texts.
        separator: The string between documents.

    Returns:
        `path` itself if it is a text file, else the path of the new file.

    Raises:
        OSError: If a file or folder does not exist, or cannot be read.
        ValueError: If a table lacks its column, a row has no string there, a file is no text, a folder has no such
            files, or all of them are empty.
    """
    path = Path(path)
    files = [TextFile(file, column) for file in find_files(path, column)]
    if column is None and not path.is_dir():
        return path
    content = [(file_digest(file.path), file.path.suffix) for file in files]
    settings = json.dumps([content, column, separator])
    folder = folder_of(directory) / f"joined-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"
    if not folder.exists():
        with whole_directory(folder) as building, (building / "text.txt").open("wb") as joined:
            for file in files:
                joined.writelines(_rows(file, separator) if column is not None else _text(file, separator))
            if not joined.tell():
                raise ValueError(f"{str(path)!r} has no documents, expected at least one; check how it was made")
            sync(joined)
    return folder / "text.txt"


def _rows(table: TextFile, separator: str) -> Iterator[bytes]:
    """Yield the rows of a table, each with the separator."""
    mark = separator.encode()
    for text in table.documents():
        yield utf8(text) + mark


def _text(file: TextFile, separator: str) -> Iterator[bytes]:
    """Yield a text in chunks, and the separator unless the text ends with it."""
    mark, end = separator.encode(), b""
    for chunk in open_text_file(file.path, _CHUNK_BYTES):
        yield chunk
        end = (end + chunk)[-len(mark) - _WHITE_SPACE :]
    if end and not end.rstrip().endswith(mark):
        yield mark
