"""Documents out of rows: strings and batches of an iterator, JSON lines, Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bpe.text.utf8 import StrPath

_JSON_SUFFIXES = (".jsonl", ".ndjson")
# A compressed .json is one object per line in published data sets (C4, Dolma).
TABLE_SUFFIXES = (
    ".parquet",
    *_JSON_SUFFIXES,
    *(suffix + packed for suffix in (*_JSON_SUFFIXES, ".json") for packed in (".gz", ".zst")),
)
_ROWS_AT_ONCE = 1024
_BUFFER_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_table(path: Path) -> bool:
    """Return whether the name of a file says that it has rows with columns."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def is_parquet(path: Path) -> bool:
    """Return whether the name of a file says that it is a Parquet file."""
    return path.suffix.lower() == ".parquet"


def documents_of(items: Iterable[Any], column: str | None = None) -> Iterator[str]:
    """Yield the strings among `items`, each a string or a list of strings; with `column`, rows or batches with it.

    Raises:
        TypeError: If `items` or one of them is anything else.
        ValueError: If a row has no such column.
    """
    kind = type(items).__name__
    if isinstance(items, str | bytes):
        raise TypeError(f"texts is one {kind}, expected an iterable of str; write [text]")
    if isinstance(items, Mapping) or hasattr(items, "columns"):  # iteration would yield the names
        raise TypeError(f"texts is a {kind}, expected an iterable of str; pass one of its columns or values")
    if not isinstance(items, Iterable):
        raise TypeError(f"texts is a {kind}, expected an iterable of str; `train` reads files")
    return _documents(items, column)


def _documents(items: Iterable[Any], column: str | None) -> Iterator[str]:
    """Yield the documents of `items`."""
    for number, item in enumerate(items):
        where = f"item {number} of texts"
        if column is not None:
            if not isinstance(item, Mapping):
                raise TypeError(
                    f"{where} is a {type(item).__name__}, expected a row with the column {column!r}; omit column"
                )
            item = _value(item, column, where)
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            raise TypeError(f"{where} has the columns {_names(item)}, expected a str; name one, as in column='text'")
        elif isinstance(item, Iterable) and not isinstance(item, bytes):
            for text in item:
                if not isinstance(text, str):
                    raise TypeError(f"{where} has a {type(text).__name__}, expected str; convert it, or leave it out")
                yield text
        else:
            raise TypeError(
                f"{where} is a {type(item).__name__}, expected a str or a list of str; convert it, or leave it out"
            )


def read_json_lines(path: StrPath, chunks: Iterable[bytes], column: str) -> Iterator[str]:
    """Yield the strings in a column of JSON lines: one object per line; blank lines are skipped.

    Raises:
        ValueError: If a line is not such an object, or has no string in the column.
    """
    for number, line in enumerate(_lines(chunks), start=1):
        where = f"line {number} of {str(path)!r}"
        content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not content.strip():
            continue
        try:
            row = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8: {error.reason} at byte {error.start}; check it") from None
        except (ValueError, RecursionError) as error:
            why = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise ValueError(f"{where} is not JSON: {why}; expected one object per line, check it") from None
        if not isinstance(row, dict):
            raise ValueError(  # noqa: TRY004 - of the content of a file
                f"{where} is a JSON {type(row).__name__}, expected an object with the column {column!r}; write one "
                "object per line"
            )
        yield _string(_value(row, column, where), column, where)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream, without line ends."""
    waiting: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        waiting.append(first)
        if others:
            yield b"".join(waiting)
            yield from others[:-1]
            waiting = [others[-1]]
    yield b"".join(waiting)


def read_parquet(path: Path, column: str) -> Iterator[str]:
    """Yield the strings in a column of a Parquet file, in batches of rows.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If pyarrow is missing, the file is damaged, or a row has no string in the column.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError(
            f"file {str(path)!r} needs pyarrow, which is not installed; run: pip install pyarrow"
        ) from None
    row = 0
    with path.open("rb") as file:
        try:
            # A small buffer, and none filled ahead: otherwise whole row groups are read into memory.
            table = ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            names = table.schema_arrow.names
            if column in names:
                for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                    for text in batch.column(0).to_pylist():
                        row += 1
                        yield _string(text, column, f"row {row} of {str(path)!r}")
                return
        # pyarrow reports damage by its own errors, by OSError and, in strings, by UnicodeDecodeError.
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"file {str(path)!r} cannot be read as Parquet after row {row}: {error}; make or fetch it again"
            ) from error
    raise ValueError(f"file {str(path)!r} has no column {column!r}, but {_names(names)}; name one of them")


def _value(row: Mapping[Any, Any], column: str, where: str) -> Any:
    """Return the value of a row in a column."""
    if column not in row:
        raise ValueError(f"{where} has no column {column!r}, but {_names(row)}; name one of them")
    return row[column]


def _names(names: Iterable[Any]) -> str:
    """Return the names of columns, for messages."""
    listed = list(map(repr, names))
    return ", ".join(listed[:10] + (["..."] if len(listed) > 10 else [])) or "none at all"


def _string(value: Any, column: str, where: str) -> str:
    """Return the string of a row, or refuse any other value."""
    if isinstance(value, str):
        return value
    kind = "no value" if value is None else f"a {type(value).__name__}"
    raise ValueError(f"{where} has {kind} in column {column!r}, expected a string; leave the row out")
