"""Shards of a corpus: files of text or of rows with a text, in local or remote folders of datatrove."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from datatrove.io import DataFolder, DataFolderLike, get_datafolder

from bpe.text import is_compressed, open_text_file

_CHUNK_BYTES = 1 << 20
_ROWS_AT_ONCE = 1024
_JSON_LINES = (".jsonl", ".ndjson")
_SUFFIXES = ".txt, .jsonl, .ndjson, .parquet, .gz, .zst"


def open_folder(folder: DataFolderLike) -> DataFolder:
    """Open a folder by its path or URL; a relative path becomes absolute, for processes that start elsewhere."""
    if isinstance(folder, str | os.PathLike) and "://" not in str(folder):
        folder = os.path.abspath(folder)  # noqa: PTH100 (links in the path stay)
    return get_datafolder(folder)


def list_shards(folder: DataFolder) -> list[str]:
    """Return the names of the shards in a folder and its subfolders, sorted.

    Hidden files are left out, and so is the merges.txt of a tokenizer.

    Raises:
        ValueError: If there is none.
    """
    files = folder.list_files()
    tokenizers = {
        posixpath.dirname(name) for name in files if posixpath.basename(name) in ("vocab.json", "tokenizer.json")
    }
    names = []
    for name in files:
        directory, base = posixpath.split(name)
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        if _kind(name) and not is_hidden and not (base == "merges.txt" and directory in tokenizers):
            names.append(name)
    if not names:
        raise ValueError(f"folder {folder.resolve_paths('')!r} has no file ending in {_SUFFIXES}; name another")
    return names


def stem(name: str) -> str:
    """Return the name of a shard without the suffixes that say what it holds."""
    if is_compressed(Path(name)):
        name = name[: name.rindex(".")]
    base, suffix = posixpath.splitext(name)
    return base if suffix.lower() in (".txt", ".json", ".parquet", *_JSON_LINES) else name


def has_rows(name: str) -> bool:
    """Return whether a shard has rows, of which each has a document; else it is a text."""
    return _kind(name) == "rows"


def _kind(name: str) -> str | None:
    """Return "text" or "rows", or None for any other file."""
    path = PurePosixPath(name.lower())
    if is_compressed(Path(path)):
        return "rows" if PurePosixPath(path.stem).suffix in (*_JSON_LINES, ".json") else "text"
    return {".txt": "text", ".parquet": "rows", **dict.fromkeys(_JSON_LINES, "rows")}.get(path.suffix)


@contextmanager
def local_copy(folder: DataFolder, name: str) -> Iterator[Path]:
    """Yield the path of a file: its own if the folder is local, else that of a temporary copy.

    Raises:
        OSError: If it cannot be read.
    """
    if folder.is_local():
        yield Path(folder.resolve_paths(name))
        return
    with TemporaryDirectory(prefix="bpe-") as temporary:
        path = Path(temporary, posixpath.basename(name))
        folder.get_file(name, str(path))
        yield path


@contextmanager
def written_to(folder: DataFolder, name: str) -> Iterator[Path]:
    """Yield a path to write to; in a remote folder, the file, and then all files beside it, appear at the end.

    `name` may also be that of a folder to fill.

    Raises:
        OSError: If it cannot be written.
    """
    if folder.is_local():
        path = Path(folder.resolve_paths(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with TemporaryDirectory(prefix="bpe-") as temporary:
        path = Path(temporary, posixpath.basename(name))
        yield path
        folder.makedirs(posixpath.dirname(name), exist_ok=True)
        # The file itself comes last, because the others describe it.
        for file in sorted(filter(Path.is_file, path.parent.rglob("*")), key=lambda file: (file == path, file)):
            beside = file.relative_to(path.parent).as_posix()
            folder.put_file(str(file), posixpath.join(posixpath.dirname(name), beside))


def is_empty(path: Path) -> bool:
    """Return whether a text file, plain or compressed, has no text."""
    return next(open_text_file(path, 1), b"") == b""


def read_rows(path: Path, column: str) -> Iterator[str]:
    """Yield the text of each row of a file of JSON lines or Parquet.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a row has no text, the file is damaged, or pyarrow is missing.
    """
    rows = _parquet_rows if path.suffix.lower() == ".parquet" else _json_rows
    for number, text in enumerate(rows(path, column), start=1):
        if type(text) is not str:
            raise ValueError(
                f"row {number:,} of {str(path)!r} has {text!r} in the column {column!r}, expected a text; remove the "
                "row, or name another column"
            )
        yield text


def _json_rows(path: Path, column: str) -> Iterator[object]:
    """Yield a field of each line, without the lines that are empty."""
    for number, line in enumerate(_lines(open_text_file(path, _CHUNK_BYTES)), start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)[column]
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise ValueError(
                f"line {number:,} of {str(path)!r} is no JSON object with the field {column!r} "
                f"({type(error).__name__}: {error}); mend it, or name another column"
            ) from None


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file that is read in chunks."""
    waiting: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        waiting.append(first)
        for other in others:
            yield b"".join(waiting)
            waiting = [other]
    yield b"".join(waiting)


def _parquet_rows(path: Path, column: str) -> Iterator[object]:
    """Yield a column."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError(
            f"file {str(path)!r} needs pyarrow, which is not installed; run: pip install pyarrow"
        ) from None
    try:
        with ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                columns = ", ".join(file.schema_arrow.names)
                raise ValueError(f"file {str(path)!r} has no column {column!r}, but {columns}; name one of them")
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                yield from batch.column(0).to_pylist()
    except ArrowInvalid as error:
        raise ValueError(f"file {str(path)!r} is damaged: {error}; make or fetch it again") from error
