"""Records as JSON, one object per line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from trainer.loggers.protocol import Record
from trainer.support.files import naming

__all__ = ["JsonlLogger", "Record", "finite", "finite_record"]


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


def finite_record(record: Record) -> dict[str, Any]:
    """Return a record for JSON: numbers that are not finite become None, and a status says so."""
    values = {name: finite(value) for name, value in record.items()}
    if any(values[name] is None and record[name] is not None for name in values):
        values["status"] = "not finite"
    return values


def finite(value: Any) -> Any:
    """Return None for a float that is not finite, and any other value unchanged."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
