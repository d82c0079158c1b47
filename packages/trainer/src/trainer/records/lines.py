"""One JSON object per line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from trainer.support.files import naming

Record: TypeAlias = Mapping[str, Any]
"""One report: "event" is "train", "eval" or "notice"; a notice has a "message", the others are as in metrics.jsonl."""


class JsonlLogger:
    """Appends records to a file, each line complete on disk before the next begins.

    JSON has no NaN or infinity: such a number becomes null and the record gets `"status": "not finite"`.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self.path.open("ab")
        self.lines = 0
        """Lines that were logged, and those before them if whoever opened the file has counted them."""

    def log(self, record: Record) -> None:
        """Append one record and hand it to the operating system."""
        with naming(self.path):
            self._file.write(json.dumps(finite_record(record), ensure_ascii=False).encode("utf-8") + b"\n")
            self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Flush to the disk, so that not even a power failure takes what was logged."""
        with naming(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush to the disk and close; closing twice is harmless."""
        if not self._file.closed:
            self.sync()
            with naming(self.path):
                self._file.close()


def finite_record(record: Record) -> dict[str, Any]:
    """Return a record that JSON can express: null for numbers that are not finite, and a status that says so."""
    values = {name: finite(value) for name, value in record.items()}
    if any(values[name] is None and record[name] is not None for name in values):
        values["status"] = "not finite"
    return values


def finite(value: Any) -> Any:
    """Return None for a float that is not finite, anything else as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
