"""JSON and text files of other libraries, and their settings: errors name the file and the unsupported setting."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bpe.text import StrPath

_LONGEST_VALUE = 120


def read_text(path: StrPath) -> str:
    """Return the text of a file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not UTF-8.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"file {str(path)!r} is not UTF-8: {error.reason} at byte {error.start}; check it") from None


def read_json(path: StrPath) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not JSON, is nested too deeply, or an object has the same name twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in content if names.count(name) > 1)
            raise ValueError(f"file {str(path)!r} has {twice!r} twice in one object; remove one")
        return content

    try:
        return json.loads(read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"file {str(path)!r} is not JSON: {error}; check it") from None
    except RecursionError:
        raise ValueError(f"file {str(path)!r} has JSON nested too deeply to be read; check it") from None


def unsupported(source: str, name: str, value: object, expected: str = "none") -> ValueError:
    """Return the error for a setting whose value is not supported."""
    shown = repr(value)
    if len(shown) > _LONGEST_VALUE:
        shown = f"{shown[:_LONGEST_VALUE]}..."
    return ValueError(f"{source} has {name} = {shown}, expected {expected}: not supported here; use its own library")


def refuse(source: str, name: str, value: object) -> None:
    """Refuse a setting that has a value.

    Raises:
        ValueError: If the value is neither None, false, empty nor zero.
    """
    if value:
        raise unsupported(source, name, value)


def object_of(source: str, name: str, value: object) -> dict[str, Any]:
    """Return a setting that must be a JSON object.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, dict):
        raise unsupported(source, name, value, "a JSON object")
    return value


def texts_beside(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the texts of those files in a folder that exist, by name; a name may be a pattern such as `*.jinja`.

    Raises:
        ValueError: If one is not UTF-8.
    """
    found = [path for name in names for path in sorted(folder.glob(name)) if path.is_file()]
    return {path.relative_to(folder).as_posix(): read_text(path) for path in found}


def list_of(source: str, name: str, value: object) -> list[Any]:
    """Return a setting that must be a JSON array.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, list):
        raise unsupported(source, name, value, "a JSON array")
    return value
