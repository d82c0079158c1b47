"""The run directory: its lock, and its files."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer.config import FREE_SETTINGS
from trainer.records.lines import JsonlLogger, Record
from trainer.records.summary import Summary
from trainer.support.files import write_atomically

CSV_COLUMNS = (
    "event step progress tokens seconds_total seconds_training loss loss_max perplexity bits_per_byte "
    "lr grad_norm parameter_norm tokens_per_second mfu memory_bytes status"
).split()
_SHOWN_DIFFERENCES = 3


class RunLockedError(OSError):
    """Another process, or another trainer of this process, writes to the run directory."""


class RunDirectory:
    """Records of one run; checkpoints and pictures have their own modules.

    Args:
        path: The directory.
        writes: False in a process that leaves writing to another one: nothing is locked or written then.
    """

    def __init__(self, path: str | os.PathLike[str], *, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.checkpoints = self.path / "checkpoints"
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Create the directory and lock it until `release` or the end of the process.

        Raises:
            RunLockedError: If the directory is locked already.
            OSError: If it cannot be created or written, or its file system does not support locks.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".lock").open("ab").close()
        except OSError as error:
            raise _explained(
                error,
                f"cannot write to the run directory {self.path}: {error.strerror}; choose another one or permit it",
            ) from error
        lock = FileLock(self.path / ".lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunLockedError(
                f"run directory {self.path} is in use by another process: wait for it or choose another directory"
            ) from error
        except OSError as error:
            raise _explained(
                error,
                f"the file system of the run directory {self.path} cannot lock files ({error.strerror}), so two runs "
                "could mix there; choose a directory on another disk, or mount this one with locks",
            ) from error
        self._lock = lock
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed processes; nobody else writes here now."""
        for path in self.path.glob(".*.tmp-*"):
            with suppress(OSError):  # harmless
                path.unlink()

    def release(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def match_config(self, config: Mapping[str, Any]) -> None:
        """Check that the directory holds no run of another configuration; without checkpoints it holds no run.

        Raises:
            ValueError: If it does; the message names the first fields that differ.
            FileNotFoundError: If there are checkpoints without a `config.json`.
        """
        if not (self.path / "summary.json").exists() and not any(self.checkpoints.glob("step_*")):
            return
        recorded = flatten(read_config(self.path))
        given = flatten(json.loads(json.dumps(config)))
        names = [*given, *(name for name in recorded if name not in given)]
        missing = object()
        different = [
            name
            for name in names
            if name not in FREE_SETTINGS and given.get(name, missing) != recorded.get(name, missing)
        ]
        # Another version of torch may have more or fewer settings of an optimizer; common ones have to agree.
        different = [
            name for name in different if not name.startswith("optimizer.") or (name in given and name in recorded)
        ]
        if different:
            shown = "; ".join(
                f"{name} was {_shown(recorded, name)}, now {_shown(given, name)}"
                for name in different[:_SHOWN_DIFFERENCES]
            )
            more = f" and {len(different) - _SHOWN_DIFFERENCES} more" if len(different) > _SHOWN_DIFFERENCES else ""
            raise ValueError(
                f"{self.path} holds a run with another configuration: {shown}{more}; "
                "restore the configuration to resume it, or choose another run directory"
            )

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        if not self.writes:
            return
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.path / name, text.encode("utf-8") + b"\n")

    def write_environment(self, environment: Mapping[str, Any], resumed_at: int | None) -> str:
        """Write `environment.json`; for a resumed run, keep the first environment and append the new one.

        Returns:
            The permanent id of the run; an empty string where nothing is written.
        """
        if not self.writes:
            return ""
        path = self.path / "environment.json"
        run_id = secrets.token_hex(8)
        if resumed_at is not None and path.exists():
            first = json.loads(path.read_text("utf-8"))
            first["resumed"] = [*first["resumed"], {"step": resumed_at, **environment}]
            environment = {"run_id": run_id, **first}
        else:
            environment = {"run_id": run_id, **environment, "resumed": []}
        self.write_json("environment.json", environment)
        return str(environment["run_id"])

    def read_summary(self) -> Summary | None:
        """Return the summary of a finished run, or None."""
        path = self.path / "summary.json"
        return Summary.from_json(json.loads(path.read_text("utf-8")), str(path)) if path.exists() else None

    def open_lines(self, name: str, last_step: int, last_line: int | None = None) -> JsonlLogger:
        """Open a `.jsonl` file for appending, cut back to the checkpoint that the run resumes from.

        Args:
            name: Name of the file.
            last_step: Lines of later steps are removed.
            last_line: The number of lines at the checkpoint, which may be followed by later ones of the same step; None
                if it is not known.
        """
        if not self.writes:
            return _NoLines(os.devnull)
        path = self.path / name
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= last_step][:last_line]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
        logger = JsonlLogger(path)
        logger.lines = len(kept)
        return logger

    def write_csv(self) -> None:
        """Write `metrics.csv` from `metrics.jsonl`."""
        if not self.writes:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(read_metrics(self.path))
        write_atomically(self.path / "metrics.csv", text.getvalue().encode("utf-8"))


class _NoLines(JsonlLogger):
    """Takes records and keeps none."""

    def log(self, record: Record) -> None:
        pass

    def sync(self) -> None:
        pass


def read_config(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration of a run from `config.json`; values that the caller added are under "recorded".

    Raises:
        FileNotFoundError: If this is no run directory.
        ValueError: If the file is damaged.
    """
    path = Path(run_dir, "config.json")
    if not path.is_file():
        raise FileNotFoundError(f"{Path(run_dir)} is no run directory: expected a config.json in it")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or choose another run directory") from error
    return dict(config)


def read_metrics(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of `metrics.jsonl`, without a last line that a kill cut short.

    Raises:
        FileNotFoundError: If the run has no metrics.
    """
    path = Path(run_dir, "metrics.jsonl")
    if not path.is_file():
        raise FileNotFoundError(f"{Path(run_dir)} has no metrics.jsonl: expected a run directory")
    return [json.loads(line) for line in _lines(path)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one with dotted names; "train." is omitted, because users know those names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        full = name if prefix in ("", "train.") else f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{full}.")
        else:
            flat[full] = value
    return flat


def _lines(path: Path) -> list[bytes]:
    """Return the complete lines of an append-only file."""
    content = path.read_bytes() if path.exists() else b""
    return content.split(b"\n")[:-1]


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else "not set"


def _explained(error: OSError, message: str) -> OSError:
    """Return an error of the same kind and number with another message."""
    explained = type(error)(message)
    explained.errno = error.errno
    return explained
