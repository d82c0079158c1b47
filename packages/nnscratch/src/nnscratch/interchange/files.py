"""Atomic writing of files, and reading and writing of JSON objects."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; if the block succeeds, the file written there replaces `path`.

    After an error the temporary file is removed and `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors 0.8 replaces the file by one that only its owner may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write a dictionary as indented JSON, replacing an older file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not hold a JSON object; the message ends with `advice`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON ({error}); {advice}") from error
    if isinstance(content, dict):
        return content
    raise ValueError(f"{str(path)!r} holds a {type(content).__name__}, expected an object; {advice}")
