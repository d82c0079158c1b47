"""Shards of a corpus: files of text or of rows with a text, in local or remote folders of datatrove."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from datatrove.io import DataFolder, DataFolderLike, get_datafolder

from bpe.text import TABLE_SUFFIXES, TEXT_SUFFIXES, TextFile, is_compressed, is_table, open_text_file


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
        is_shard = base.lower().endswith((*TEXT_SUFFIXES, *TABLE_SUFFIXES))
        if is_shard and not is_hidden and not (base == "merges.txt" and directory in tokenizers):
            names.append(name)
    if not names:
        suffixes = ", ".join((*TEXT_SUFFIXES, ".jsonl", ".ndjson", ".parquet"))
        raise ValueError(f"folder {folder.resolve_paths('')!r} has no file ending in {suffixes}; name another")
    return names


def stem(name: str) -> str:
    """Return the name of a shard without the suffixes that say what it holds."""
    if is_compressed(Path(name)):
        name = name[: name.rindex(".")]
    base, suffix = posixpath.splitext(name)
    return base if suffix.lower() in (".txt", ".json", ".jsonl", ".ndjson", ".parquet") else name


def column_of(name: str, column: str) -> str | None:
    """Return the column of a shard that is a table, or None if the shard is a text."""
    return column if is_table(Path(name)) else None


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
    """Yield a path to write to; in a remote folder the file, and all that is written beside it, appear at the end.

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
        for file in sorted(path.parent.iterdir(), key=lambda file: (file == path, file)):
            folder.put_file(str(file), posixpath.join(posixpath.dirname(name), file.name))


def is_empty(path: Path, column: str | None) -> bool:
    """Return whether a shard has no text at all."""
    if column is None:
        return next(open_text_file(path, 1), b"") == b""
    return not any(TextFile(path, column).documents())
