"""The run directory: who may write to it, and what is in its files."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any

from trainer.config import FREE_SETTINGS, TrainConfig
from trainer.records.lines import JsonlLogger, Record
from trainer.records.summary import Summary
from trainer.support.files import write_atomically

CSV_COLUMNS = (
    "event",
    "step",
    "progress",
    "tokens",
    "seconds_total",
    "seconds_training",
    "loss",
    "loss_max",
    "perplexity",
    "bits_per_byte",
    "lr",
    "grad_norm",
    "parameter_norm",
    "tokens_per_second",
    "mfu",
    "memory_bytes",
    "status",
)
_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_SHOWN_DIFFERENCES = 3


class RunLockedError(OSError):
    """Another process, or another trainer of this one, writes to the run directory."""


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
        self._lock: IO[bytes] | None = None

    def acquire(self) -> None:
        """Make the directory and lock it until `release` or the end of the process.

        Raises:
            RunLockedError: it is locked already.
            OSError: it cannot be made or written, or its file system knows no locks.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("ab")
        except OSError as error:
            raise type(error)(
                f"cannot write to the run directory {self.path}: {error.strerror}; choose another one or permit it"
            ) from error
        try:
            _lock(lock)
        except OSError as error:
            lock.close()
            if error.errno in _LOCKED:
                raise RunLockedError(
                    f"run directory {self.path} is in use by another process: wait for it or choose another directory"
                ) from error
            unable = OSError(
                f"the file system of the run directory {self.path} cannot lock files ({error.strerror}), so two runs "
                "could mix there; choose a directory on another disk, or mount this one with locks"
            )
            unable.errno = error.errno
            raise unable from error
        self._lock = lock
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left of files that they wrote aside; nobody else writes here now."""
        for path in self.path.glob(".*.tmp-*"):
            with suppress(OSError):  # it is only in the way
                path.unlink()

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def match_config(self, config: Mapping[str, Any]) -> None:
        """Check that what is here belongs to a run of this very configuration; without checkpoints nothing does.

        Raises:
            ValueError: it belongs to another one; the message names the first fields that differ.
            FileNotFoundError: there are checkpoints without a `config.json`.
        """
        if not (self.path / "summary.json").exists() and not any(self.checkpoints.glob("step_*")):
            return
        # A run of an earlier version says nothing of later settings, whose defaults are what it did.
        defaults = {field.name: field.default for field in fields(TrainConfig) if field.default is not MISSING}
        recorded = {**json.loads(json.dumps(defaults)), **flatten(read_config(self.path))}
        given = flatten(json.loads(json.dumps(config)))
        names = [*given, *(name for name in recorded if name not in given)]
        missing = object()
        different = [
            name
            for name in names
            if name not in FREE_SETTINGS and given.get(name, missing) != recorded.get(name, missing)
        ]
        # Another version of torch may know more or fewer settings of an optimizer; what both know has to agree.
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
        """Write `environment.json`; that of a resumed run keeps its first environment and lists the later ones.

        Returns:
            The run's id, which it keeps for ever; nothing where nothing is written.
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
        """Return the summary of a finished run, None if it is not finished."""
        path = self.path / "summary.json"
        return Summary.from_json(json.loads(path.read_text("utf-8")), str(path)) if path.exists() else None

    def open_lines(self, name: str, last_step: int, last_line: int | None = None) -> JsonlLogger:
        """Open a `.jsonl` file for appending, without what will be made again.

        Args:
            name: of the file.
            last_step: what it has of later steps is left out.
            last_line: so many lines are kept at most, because what came after them was of the same step, but later than
                its checkpoint; None if that is not known.
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
    """Return the configuration of a run, as `config.json` keeps it; what the caller added is under "recorded".

    Raises:
        FileNotFoundError: this is no run directory.
        ValueError: the file is damaged.
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
    """Return the records of `metrics.jsonl`; a last line that a kill cut short is left out.

    Raises:
        FileNotFoundError: the run has no metrics.
    """
    path = Path(run_dir, "metrics.jsonl")
    if not path.is_file():
        raise FileNotFoundError(f"{Path(run_dir)} has no metrics.jsonl: expected a run directory")
    return [json.loads(line) for line in _lines(path)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted names; "train." is left out, for those names are the user's own."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        full = name if prefix in ("", "train.") else f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{full}.")
        else:
            flat[full] = value
    return flat


def _lines(path: Path) -> list[bytes]:
    """The complete lines of a file that is only ever appended to."""
    content = path.read_bytes() if path.exists() else b""
    return content.split(b"\n")[:-1]


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else "not set"


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: the directory is not locked there
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
