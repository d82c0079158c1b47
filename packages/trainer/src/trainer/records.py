"""The run directory: what was run, on what, and what came of it."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import torch

from trainer.devices import device_name
from trainer.files import write_atomically, write_json
from trainer.summary import Summary

COLUMNS = (
    "event", "step", "progress", "tokens", "seconds_total", "seconds_training", "loss", "perplexity", "bits_per_byte",
    "lr", "grad_norm", "tokens_per_second", "memory_bytes",
)  # fmt: skip
LIBRARIES = ("torch", "numpy", "safetensors", "scratchlm-trainer", "scratchlm-nnscratch", "scratchlm-bpe")


class RunDirectory:
    """One run's files, laid out as the package's README shows.

    Raises:
        OSError: the directory cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.samples_path = path / "samples.jsonl"

    def summary(self) -> Summary | None:
        """The result of the run if it is complete."""
        path = self.path / "summary.json"
        return Summary.from_dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Raise ValueError if the directory belongs to a run of another configuration, naming what differs."""
        path = self.path / "config.json"
        if not path.exists():
            return
        there, here = _flat(json.loads(path.read_text("utf-8"))), _flat(json.loads(json.dumps(config)))
        different = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
        if different:
            name = different[0]
            more = f" and {len(different) - 1} more" if len(different) > 1 else ""
            raise ValueError(
                f"{self.path} holds a run with {name} = {there.get(name)!r}, not {here.get(name)!r}{more}; "
                "choose another directory, or delete that one"
            )

    def begin(self, config: Mapping[str, Any], device: torch.device, seed: int) -> None:
        """Write config.json and environment.json, once."""
        if not (self.path / "config.json").exists():
            write_json(self.path / "environment.json", environment(device, seed))
            write_json(self.path / "config.json", config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process.

        Raises:
            BlockingIOError: another process trains in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:
                pass  # no such locks on Windows
            except BlockingIOError:
                raise BlockingIOError(
                    f"{self.path}: another process trains here; wait for it, or choose another"
                ) from None
            yield

    def truncate(self, metrics_bytes: int, samples_bytes: int) -> None:
        """Cut off what was recorded after the checkpoint that training goes on from."""
        for path, size in ((self.metrics_path, metrics_bytes), (self.samples_path, samples_bytes)):
            if path.exists():
                os.truncate(path, size)
            elif size:
                raise ValueError(f"{path} is missing: expected {size} bytes of it; give the run another directory")

    def write_csv(self) -> None:
        """Write metrics.csv from metrics.jsonl."""
        lines = [",".join(COLUMNS)]
        for text in self.metrics_path.read_text("utf-8").splitlines():
            record = json.loads(text)
            lines.append(",".join("" if record.get(name) is None else str(record[name]) for name in COLUMNS))
        write_atomically(self.path / "metrics.csv", ("\n".join(lines) + "\n").encode())

    def finish(self, summary: Summary) -> None:
        """Write summary.json: the mark of a complete run."""
        write_json(self.path / "summary.json", summary.to_dict())


class JsonLines:
    """A file that grows by one line of JSON at a time."""

    def __init__(self, path: Path) -> None:
        self.file: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        self.file.write(json.dumps(record, allow_nan=False) + "\n")
        self.file.flush()

    def sync(self) -> int:
        """Bring everything to disk and return the file's size in bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_config(run_dir: str | Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        FileNotFoundError: the directory holds no run.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is no run directory: it has no config.json")
    return json.loads(path.read_text("utf-8"))


def environment(device: torch.device, seed: int) -> dict[str, Any]:
    """What the run's numbers depend on beside its configuration."""
    return {
        "command": sys.argv,
        "commit": _git("rev-parse", "HEAD"),
        "dirty_diff": _git("diff", "HEAD"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def _version(name: str) -> str | None:
    if name == "torch":
        return str(torch.__version__)
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """The output of git in the working directory; None without git or outside of a repository."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{prefix}.{name}" if prefix else name)
    return found
