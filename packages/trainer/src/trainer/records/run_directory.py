"""The run directory: its lock, and its files."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from trainer.config import CHANGEABLE_SETTINGS, TrainConfig
from trainer.records.lines import JsonlLogger, Record, read_lines, read_object
from trainer.records.summary import Summary
from trainer.support.files import explained, obstacle, write_atomically

RUN_FORMAT = 2
"""Version of the format of run directories; another one cannot resume."""
CSV_COLUMNS = (
    "event step progress tokens seconds_total seconds_training loss loss_max perplexity bits_per_byte "
    "lr grad_norm parameter_norm tokens_per_second mfu memory_bytes status"
).split()
_SHOWN_DIFFERENCES = 3
_DEFAULTS = json.loads(json.dumps({f.name: f.default for f in fields(TrainConfig) if f.default is not MISSING}))
_FUNCTIONS = ("loss_fn", "schedule", "weight_decay_schedule", "momentum_schedule")

Changes: TypeAlias = dict[str, tuple[Any, Any]]
"""Earlier and present values of settings that have changed, by their flattened names."""


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
        self._lock: BaseFileLock | None = None

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
            raise explained(
                error,
                f"cannot write to the run directory {self.path}: {obstacle(self.path, error)}; choose another one or "
                "permit it",
            ) from error
        self._lock = _acquired(self.path)
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

    def compare_config(self, config: Mapping[str, Any], changeable: Collection[str] = ()) -> Changes:
        """Compare a configuration with that of the run in the directory; without checkpoints it holds no run.

        Args:
            config: The configuration, as `describe_run` returns it.
            changeable: Names of "recorded" values that may change, besides `CHANGEABLE_SETTINGS`, such as
                "recorded.recipe.steps".

        Returns:
            Earlier and present values of all settings that differ and may change.

        Raises:
            ValueError: If others differ, of which the message names the first ones; or another version wrote the run.
            FileNotFoundError: If there are checkpoints without a `config.json`.
        """
        if not (self.path / "summary.json").exists() and not any(self.checkpoints.glob("step_*")):
            return {}
        recorded, given = read_config(self.path), json.loads(json.dumps(config))
        if (version := recorded.get("version", 1)) != RUN_FORMAT:
            raise ValueError(
                f"the run in {self.path} has version {version} of the format, expected {RUN_FORMAT}: resume it with "
                "the version of this package that wrote it (environment.json names it), or choose another run directory"
            )
        edited = _edited_functions(recorded.pop("functions", {}), given.pop("functions", {}))
        # A run of a version without a setting had its default.
        recorded["train"] = {**_DEFAULTS, **recorded.get("train", {})}
        recorded, given = flatten(recorded), flatten(given)
        names = [*given, *(name for name in recorded if name not in given)]
        missing = object()
        different = [name for name in names if given.get(name, missing) != recorded.get(name, missing)]
        # Another version of torch may have more or fewer settings of an optimizer; common ones have to agree.
        different = [
            name for name in different if not name.startswith("optimizer.") or (name in given and name in recorded)
        ]
        free = {*CHANGEABLE_SETTINGS, *changeable, "callbacks"}
        refused = [name for name in different if name not in free]
        if refused:
            shown = "; ".join(
                f"{name} was {_shown(recorded, name)}, now {_shown(given, name)}"
                for name in refused[:_SHOWN_DIFFERENCES]
            )
            more = f" and {len(refused) - _SHOWN_DIFFERENCES} more" if len(refused) > _SHOWN_DIFFERENCES else ""
            raise ValueError(
                f"{self.path} holds a run with another configuration: {shown}{more}; "
                "restore the configuration to resume it, or choose another run directory"
            )
        return {name: (recorded.get(name), given.get(name)) for name in different} | edited

    def begin_anew(self, config: Mapping[str, Any]) -> str | None:
        """Make way for a run that begins at step 0; call it before anything is written.

        Records of an earlier run that ended before its first checkpoint stay only if they are of another configuration,
        in a folder of their own. Those of the same configuration are about to be made again.

        Args:
            config: The configuration, as `describe_run` returns it.

        Returns:
            A sentence about the earlier records; None if there are none of any step.
        """
        if not self.writes:
            return None
        last_step = max((record["step"] for _, record in read_lines(self.path / "metrics.jsonl")), default=0)
        if last_step == 0:
            return None
        begins = f"there is no checkpoint, so the run begins anew; its earlier records, up to step {last_step:,},"
        try:
            is_same = read_config(self.path) == json.loads(json.dumps(config))
        except (FileNotFoundError, ValueError):
            is_same = False
        if is_same:
            return f"{begins} are made again"
        folder = next(path for number in count(1) if not (path := self.path / f"earlier-{number}").exists())
        folder.mkdir()
        # The metrics last: if this process is killed here, the next one finds them and goes on.
        for name in ("samples.jsonl", "environment.json", "config.json", "metrics.jsonl"):
            if (self.path / name).exists():
                (self.path / name).rename(folder / name)
        return f"{begins} are of another configuration and now in {folder}"

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        if not self.writes:
            return
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.path / name, text.encode("utf-8") + b"\n")

    def write_environment(
        self, environment: Mapping[str, Any], resumed_at: int | None, changes: Changes | None = None
    ) -> str:
        """Write `environment.json`; for a resumed run, keep the first environment and append the new one.

        Args:
            environment: The environment of this session.
            resumed_at: The step that the run resumes from; None for a new one.
            changes: Settings that have changed since the last session.

        Returns:
            The permanent id of the run; an empty string where nothing is written.
        """
        if not self.writes:
            return ""
        run_id = secrets.token_hex(8)
        first = None
        if resumed_at is not None:
            first = self._read("environment.json", "it begins anew, with another run_id")
        if first is not None:
            first["resumed"] = [
                *first.get("resumed", ()),
                {"step": resumed_at, "changed": changes or {}, **environment},
            ]
            environment = {"run_id": run_id, **first}
        else:
            environment = {"run_id": run_id, **environment, "resumed": []}
        self.write_json("environment.json", environment)
        return str(environment["run_id"])

    def read_summary(self) -> Summary | None:
        """Return the summary of a finished run, or None; a damaged one causes a warning.

        Raises:
            ValueError: If another version of this package wrote it.
        """
        values = self._read("summary.json", "the run resumes from its last checkpoint")
        return None if values is None else Summary.from_json(values, str(self.path / "summary.json"))

    def _read(self, name: str, consequence: str) -> dict[str, Any] | None:
        """Return the object in a JSON file; None if there is no file, or with a warning if it is damaged."""
        if not (self.path / name).exists():
            return None
        try:
            return read_object(self.path / name)
        except ValueError as error:
            warnings.warn(f"{error}; {consequence}", RuntimeWarning, stacklevel=3)
            return None

    def open_lines(self, name: str, last_step: int, last_line: int | None = None) -> JsonlLogger:
        """Open a `.jsonl` file for appending, cut back to the checkpoint that the run resumes from.

        Damaged lines are removed with a warning, and another one names lines that are missing.

        Args:
            name: Name of the file.
            last_step: Lines of later steps are removed.
            last_line: The number of lines at the checkpoint, which may be followed by later ones of the same step; None
                if it is not known.
        """
        if not self.writes:
            return _NoLines(os.devnull)
        path = self.path / name
        lines = read_lines(path, least=last_line or 0)
        kept = [line for line, record in lines if record["step"] <= last_step][:last_line]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
        logger = JsonlLogger(path)
        logger.lines = len(kept)
        return logger

    def remove_summary(self) -> None:
        """Remove the summary of a run that goes on."""
        if self.writes:
            (self.path / "summary.json").unlink(missing_ok=True)

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
        return read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; restore it or choose another run directory") from None


def read_metrics(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of `metrics.jsonl`, without damaged lines, which cause a warning.

    Raises:
        FileNotFoundError: If the run has no metrics.
    """
    path = Path(run_dir, "metrics.jsonl")
    if not path.is_file():
        raise FileNotFoundError(f"{Path(run_dir)} has no metrics.jsonl: expected a run directory")
    return [record for _, record in read_lines(path)]


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


def describe_changes(changes: Changes) -> str:
    """Return changes in words."""
    return "; ".join(
        f"{name} was edited" if name in _FUNCTIONS else f"{name} was {before!r}, now {now!r}"
        for name, (before, now) in changes.items()
    )


def _edited_functions(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> Changes:
    """Return the digests of functions that differ, as far as they can be compared."""
    changes: Changes = {}
    for name in _FUNCTIONS:
        before, now = recorded.get(name), given.get(name)
        if before and now and before["python"] == now["python"] and before["sha256"] != now["sha256"]:
            changes[name] = (before["sha256"], now["sha256"])
    return changes


def _acquired(directory: Path) -> BaseFileLock:
    """Return a lock of a directory that this process now holds.

    Some file systems, such as Lustre without the option `flock`, cannot lock files; a marker file replaces the lock.

    Raises:
        RunLockedError: If another process holds it.
        OSError: If the marker cannot be written.
    """
    in_use = f"run directory {directory} is in use by another process: wait for it or choose another directory"
    try:
        return _locked(_native_lock(directory / ".lock"))
    except Timeout as error:
        raise RunLockedError(in_use) from error
    except (OSError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
    marker = directory / ".lock-marker"
    try:
        lock = _locked(SoftFileLock(marker, timeout=0, thread_local=False))
    except Timeout as error:
        raise RunLockedError(f"{in_use}; if none uses it, delete {marker}, which a killed process has left") from error
    warnings.warn(
        f"the file system of the run directory {directory} cannot lock files ({reason}), so {marker.name} in it keeps "
        "other processes out; if this process is killed on another machine than the next one, delete it by hand",
        RuntimeWarning,
        stacklevel=2,
    )
    return lock


def _native_lock(path: Path) -> BaseFileLock:
    try:
        return FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    except TypeError:  # an older filelock, which never falls back
        return FileLock(path, timeout=0, thread_local=False)


def _locked(lock: BaseFileLock) -> BaseFileLock:
    lock.acquire()
    return lock


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else "not set"
