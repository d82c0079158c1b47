"""A data set's two files from the Hugging Face hub: downloaded once, verified, found again without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from re import fullmatch
from typing import Any

from trainer.support.files import write_atomically

ATTEMPTS = 3  # at a file whose connection breaks in a way that the library does not mend itself


class DownloadError(OSError):
    """A file cannot be had, or is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class HubDataset:
    """A repository of the hub and two of its files."""

    name: str
    repository: str
    train: str
    valid: str
    revision: str = "main"
    """What the first download takes, a branch or a commit; the commit that it stood for is recorded and kept to."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Checksums known beforehand, by file; the others are those that the hub announces at the first download."""
    advice: str = ""
    """What one can do without the hub, such as flags of a command; messages of failed downloads end with it."""


@dataclass(frozen=True)
class Download:
    """A verified file in the library's cache."""

    path: Path
    sha256: str


def download(dataset: HubDataset, directory: Path, notify: Callable[[str], None]) -> tuple[Download, Download]:
    """Return the training and the validation file, downloaded unless the cache has them, each verified once.

    The commit, sizes and checksums go into `directory/<name>-hub.json`: from then on they are what is expected, and a
    file that has kept its size and its time of change is neither asked for nor read again.

    Args:
        dataset: which files.
        directory: where the record is kept; it is created.
        notify: gets one line for each thing worth telling.

    Raises:
        DownloadError: a file cannot be had, or has another checksum than expected and was removed.
        ModuleNotFoundError: huggingface-hub, the extra `hub`, is not installed.
        ValueError: the record cannot be read.
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
    for name in (dataset.valid, dataset.train):  # the small one first: it shows whether all is well
        path = _fetch(dataset, name, record["revision"], record_path, notify)
        facts = _verify(dataset, name, path, record["files"].get(name), notify)
        if record["files"].get(name) != facts:
            record["revision"] = _commit(path, name)
            record["files"][name] = facts
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(record_path, (json.dumps(record, indent=2) + "\n").encode("utf-8"))
        found[name] = Download(path, facts["sha256"])
    return found[dataset.train], found[dataset.valid]


def _read_record(path: Path, dataset: HubDataset) -> dict[str, Any]:
    """What is known from earlier downloads; of another repository or revision than is asked for now, nothing is."""
    empty = {"repository": dataset.repository, "asked": dataset.revision, "revision": dataset.revision, "files": {}}
    try:
        record = json.loads(path.read_text("utf-8"))
        same = all(record[name] == empty[name] for name in ("repository", "asked"))
        return {**empty, "revision": record["revision"], "files": dict(record["files"])} if same else empty
    except FileNotFoundError:
        return empty
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}, the record of a download, cannot be read ({error}); delete it") from error


def _fetch(dataset: HubDataset, name: str, revision: str, record: Path, notify: Callable[[str], None]) -> Path:
    """The path of a file in the library's cache, where it is now if it was not there before."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(dataset.repository, name, repo_type="dataset", revision=revision)
    if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
        notify(f"downloading {name} of {dataset.repository} from {constants.ENDPOINT} into {constants.HF_HUB_CACHE}")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _without_warnings():
                return Path(hf_hub_download(dataset.repository, name, repo_type="dataset", revision=revision))
        except OSError as error:
            raise DownloadError(_explanation(dataset, name, revision, record, error)) from error
        except Exception as error:  # broken connections: those of the HTTP client and of Xet have no base in common
            if attempt == ATTEMPTS:
                raise DownloadError(_explanation(dataset, name, revision, record, error)) from error
            notify(f"{name}: {_in_one_line(error)}; once more")
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the library from logging a line about every attempt at a connection, unless it was told to say more."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    verbosity = get_verbosity()
    set_verbosity(logging.ERROR if verbosity == logging.WARNING else verbosity)
    try:
        yield
    finally:
        set_verbosity(verbosity)


def _explanation(dataset: HubDataset, name: str, revision: str, record: Path, error: Exception) -> str:
    """One line: which file, what happened, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, OfflineModeIsEnabled):
        reason = f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} does not have it"
    elif status is not None:
        reason = f"the answer was {status}"
        if record.exists():
            reason += f" (revision {revision}, from {record}: without this file the newest one is taken)"
    else:
        reason = _in_one_line(cause)
    return (
        f"{name} of {dataset.repository} cannot be downloaded from {constants.ENDPOINT}: {reason}. Run it again later, "
        f"or set HF_ENDPOINT to a mirror, or fetch {dataset.train} and {dataset.valid} elsewhere. {dataset.advice}"
    ).rstrip()


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": .")


def _verify(
    dataset: HubDataset, name: str, path: Path, known: dict[str, Any] | None, notify: Callable[[str], None]
) -> dict[str, Any]:
    """The facts about a file that is as it should be: checksum, size, time of change. Any other is removed."""
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
    elif facts["sha256"] != expected:
        _remove(path)
        size = f"{known['bytes']:,} bytes with " if known else ""
        raise DownloadError(
            f"{name} of {dataset.repository} is damaged: expected {size}sha256 {expected}, came {status.st_size:,} "
            f"bytes with sha256 {facts['sha256']}; it was removed from the cache; run it again to download it anew"
        )
    else:
        notify(f"{name}: {status.st_size:,} bytes, sha256 as expected")
    return facts


def _announced_sha256(dataset: HubDataset, name: str, path: Path) -> str | None:
    """What the hub says: its ETag, which the cache has in the name that the file is linked to, or else the hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if path.is_symlink():
        etag = path.readlink().name
    else:
        url = hf_hub_url(dataset.repository, name, repo_type="dataset", revision=_commit(path, name))
        try:
            etag = get_hf_file_metadata(url).etag or ""
        except Exception:  # as above; without a network there is nothing to compare with
            return None
    return etag if fullmatch("[0-9a-f]{64}", etag) else None


def _commit(path: Path, name: str) -> str:
    """The commit of a file in the cache: the library's folder, in which files lie as they do in the repository."""
    return path.parents[len(PurePosixPath(name).parts) - 1].name


def _remove(path: Path) -> None:
    """Delete a file of the cache with all links on the way to it."""
    links = [path]
    while links[-1].is_symlink():
        links.append(links[-1].parent / links[-1].readlink())
    for link in links:
        link.unlink(missing_ok=True)
