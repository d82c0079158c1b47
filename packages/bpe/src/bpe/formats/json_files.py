"""Reading whole files of text and JSON, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bpe.text.utf8 import StrPath


def read_text(path: StrPath) -> str:
    """Return the text of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"file {str(path)!r} is not UTF-8: {error.reason} at byte {error.start}; check it") from None


def read_json(path: StrPath) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or an object in it has a name twice.
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
