"""Records as JSON, one object per line; reading them, and other JSON files, although they may be damaged."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

from trainer.loggers.protocol import Record
from trainer.support.files import explained, naming

__all__ = ["JsonlLogger", "Record", "finite", "finite_record", "read_lines", "read_object"]


class JsonlLogger:
    """Appends records to a file.

    Each line is handed to the operating system as a whole, so that a killed process loses none; `sync` and `close`
    flush to the disk. JSON has no NaN or infinity: such a number becomes null and the record gets
    `"status": "not finite"`.

    Raises:
        OSError: If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self.path.open("ab")
        self.lines = 0
        """Lines in the file, if the caller that opened it has set the number of earlier ones."""

    def log(self, record: Record) -> None:
        """Append one record and hand it to the operating system."""
        with naming(self.path):
            self._file.write(json.dumps(finite_record(record), ensure_ascii=False).encode("utf-8") + b"\n")
            self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Flush to the disk, so that even a power failure loses no line."""
        with naming(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush to the disk and close; closing twice is harmless."""
        if not self._file.closed:
            self.sync()
            with naming(self.path):
                self._file.close()


def read_lines(path: Path, least: int = 0) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the lines of a file of a `JsonlLogger`, each with its record; an empty list if there is no file.

    A last line that a kill cut short is left out. Other lines that are no records, such as the zeros that a power
    failure leaves or a note that somebody wrote, are left out with one warning.

    Args:
        path: The file.
        least: Lines that the file has had; if it has fewer, a warning says so.

    Raises:
        OSError: If the file cannot be read; the message names it.
    """
    lines = (_read(path) if path.exists() else b"").split(b"\n")[:-1]
    read = [(line, record) for line in lines if (record := _parsed(line)) is not None]
    problem = ""
    if len(lines) < least:
        problem = f"{least - len(lines):,} of {least:,} records are lost, because the file was cut or replaced"
    elif lost := len(lines) - len(read):
        problem = f"{lost:,} of {len(lines):,} lines are damaged and left out, expected records with a step"
    if problem:
        warnings.warn(f"{path}: {problem}", RuntimeWarning, stacklevel=3)
    return read


def _read(path: Path) -> bytes:
    try:
        with naming(path):
            return path.read_bytes()
    except PermissionError as error:
        message = f"this user may not read {path}: change its mode or owner, or choose another run directory"
        raise explained(error, message) from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line, or None if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(record, dict) and type(record.get("step")) is int
    return record if is_record else None


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a run.

    Raises:
        FileNotFoundError: If there is no file.
        OSError: If the file cannot be read; the message names it.
        ValueError: If the file is damaged.
    """
    text = _read(path)
    try:
        content = json.loads(text)
        json.dumps(content, allow_nan=False)  # as it was written
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is damaged: expected a JSON object")
    return content


def finite_record(record: Record) -> dict[str, Any]:
    """Return a record for JSON: numbers that are not finite become None, and a status says so."""
    values = {name: finite(value) for name, value in record.items()}
    if any(values[name] is None and record[name] is not None for name in values):
        values["status"] = "not finite"
    return values


def finite(value: Any) -> Any:
    """Return None for a float that is not finite, and any other value unchanged."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
