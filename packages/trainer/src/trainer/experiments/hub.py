"""Downloads of two files of a data set from the Hugging Face hub: once, verified, and kept to one commit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from re import fullmatch
from typing import Any

from trainer.support.files import make_directory, write_atomically

ATTEMPTS = 3
"""Attempts at a file whose connection breaks in a way that the library does not retry by itself."""


class DownloadError(OSError):
    """A file cannot be downloaded, or it is damaged; the message says what to do."""


@dataclass(frozen=True)
class HubDataset:
    """A repository of the hub and two of its files."""

    name: str
    repository: str
    train: str
    valid: str
    revision: str = "main"
    """The branch or commit of the first download; later ones take the commit that it resolved to."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Known checksums by file; for other files the checksum that the hub announces at the first download counts."""
    advice: str = ""
    """Alternatives to the hub, such as flags of a command; messages of failed downloads end with it."""


@dataclass(frozen=True)
class Download:
    """A verified file in the library's cache."""

    path: Path
    sha256: str


def download(dataset: HubDataset, directory: Path, notify: Callable[[str], None]) -> tuple[Download, Download]:
    """Return the training and the validation file, downloaded unless the cache has them, each verified once.

    The commit, sizes and checksums go into `directory/<name>-hub.json`, and later calls expect them. A file with an
    unchanged size and modification time is not read again. A download resumes where its connection broke.

    Args:
        dataset: The repository and its files.
        directory: Where the record is kept; created if missing.
        notify: Gets one line for each download and each verified file.

    Raises:
        DownloadError: If a file cannot be downloaded, or its checksum is wrong; then it is removed from the cache.
        ModuleNotFoundError: If huggingface-hub, the extra `hub`, is not installed.
        ValueError: If the record cannot be read.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModuleNotFoundError(
            'huggingface-hub is not installed: pip install "scratchlm-trainer[hub]", or from the root of the '
            'repository pip install "packages/trainer[hub]"',
            name="huggingface_hub",
        )
    record_path = directory / f"{dataset.name}-hub.json"
    record = _read_record(record_path, dataset)
    found = {}
    for name in (dataset.valid, dataset.train):  # the small file first, to fail early
        path = _fetch(dataset, name, record["revision"], record_path, notify)
        facts = _verify(dataset, name, path, record["files"].get(name), notify)
        if record["files"].get(name) != facts:
            record["revision"] = _commit(path, name)
            record["files"][name] = facts
            make_directory(directory)
            write_atomically(record_path, (json.dumps(record, indent=2) + "\n").encode("utf-8"))
        found[name] = Download(path, facts["sha256"])
    return found[dataset.train], found[dataset.valid]


def _read_record(path: Path, dataset: HubDataset) -> dict[str, Any]:
    """Read the record of earlier downloads; one of another repository or revision does not count."""
    empty = {"repository": dataset.repository, "asked": dataset.revision, "revision": dataset.revision, "files": {}}
    if not path.exists():
        return empty
    try:
        record = json.loads(path.read_text("utf-8"))
        is_same = all(record[name] == empty[name] for name in ("repository", "asked"))
        return {**empty, "revision": record["revision"], "files": dict(record["files"])} if is_same else empty
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}, the record of a download, cannot be read ({error}); delete it") from error


def _fetch(dataset: HubDataset, name: str, revision: str, record: Path, notify: Callable[[str], None]) -> Path:
    """Return the path of a file in the library's cache, downloading it if it is not there."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(dataset.repository, name, repo_type="dataset", revision=revision)
    if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
        notify(f"downloading {name} of {dataset.repository} from {constants.ENDPOINT} into {constants.HF_HUB_CACHE}")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return Path(hf_hub_download(dataset.repository, name, repo_type="dataset", revision=revision))
        except Exception as error:
            cause = error.__cause__ or error  # the library wraps some errors in general advice
            reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:300].rstrip(": .")
            # Broken connections, of the HTTP client and of Xet, have no base in common; the library's errors do.
            if attempt < ATTEMPTS and not isinstance(error, OSError):
                notify(f"{name}: {reason}; once more")
                continue
            pinned = f" (revision {revision} is pinned by {record}; delete it for the newest)"
            raise DownloadError(
                f"{name} of {dataset.repository} cannot be downloaded from {constants.ENDPOINT}: {reason}"
                f"{pinned if record.exists() else ''}. Run it again later, or set HF_ENDPOINT to a mirror, or fetch "
                f"{dataset.train} and {dataset.valid} elsewhere. {dataset.advice}".rstrip()
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _verify(
    dataset: HubDataset, name: str, path: Path, known: dict[str, Any] | None, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Return checksum, size and modification time of an intact file; remove a damaged one."""
    status = path.stat()
    facts = {"sha256": "", "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    pinned = dataset.sha256.get(name)
    if known and {**known, "sha256": ""} == facts and pinned in (None, known["sha256"]):
        return known
    with path.open("rb") as file:
        facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    expected = pinned or (known["sha256"] if known else _announced_sha256(dataset, name, path))
    if expected is None:
        notify(f"{name}: the hub announces no sha256; from now on {facts['sha256']} is expected")
    elif facts["sha256"] == expected:
        notify(f"{name}: {status.st_size:,} bytes, sha256 as expected")
    else:
        for link_or_file in (path.resolve(), path):
            link_or_file.unlink(missing_ok=True)
        raise DownloadError(
            f"{name} of {dataset.repository} is damaged: expected sha256 {expected}, got {facts['sha256']} "
            f"({status.st_size:,} bytes); it was removed from the cache, run it again to download it anew"
        )
    return facts


def _announced_sha256(dataset: HubDataset, name: str, path: Path) -> str | None:
    """Return the hub's ETag of a large file, its SHA-256: the cache names the linked file by it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    etag: str | None = path.resolve().name
    if not path.is_symlink():  # a file system without links
        url = hf_hub_url(dataset.repository, name, repo_type="dataset", revision=_commit(path, name))
        etag = get_hf_file_metadata(url).etag
    return etag if etag and fullmatch("[0-9a-f]{64}", etag) else None


def _commit(path: Path, name: str) -> str:
    """Return the commit of a file in the cache: the name of the folder that mirrors the repository."""
    return path.parents[len(PurePosixPath(name).parts) - 1].name
