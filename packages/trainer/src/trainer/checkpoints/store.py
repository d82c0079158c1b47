"""All checkpoints of a run: writing one without losing the others, pruning, and finding the one to read."""

from __future__ import annotations

import errno
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.checkpoints.directory import (
    CheckpointContent,
    CheckpointState,
    DamagedCheckpointError,
    read_checkpoint,
    read_meta,
    read_model,
    write_checkpoint,
)
from trainer.support.files import sync_directory

_NAME = re.compile(r"step_(\d{7,})")
_ASIDE = ".aside-"
_OLD = f"{_ASIDE}old-"
_MEGABYTE = 1_000_000


class CheckpointStore:
    """Checkpoints of one run: a directory for each, written aside and renamed, with checksums.

    Args:
        directory: The folder that holds them.
        keep: How many of the latest are kept, besides the one with the lowest validation loss. Untrained weights, those
            of step 0, are the best only if there are no others.
        keep_every_seconds: The first checkpoint of each such span of training seconds is kept for good; None for none.
    """

    def __init__(self, directory: Path, keep: int, keep_every_seconds: float | None = None) -> None:
        self.directory = directory
        self.keep = keep
        self.keep_every_seconds = keep_every_seconds
        self._has_warned = False

    def check_space(self, num_bytes: int) -> None:
        """Check that there is space for so many bytes, and some more.

        Raises:
            OSError: If there is not.
        """
        needed = num_bytes + num_bytes // 50 + 2 * _MEGABYTE  # names, numbers, the records of the run
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(self.directory)
        except OSError as error:
            raise self._explain(error) from error
        if usage.total > 0 and usage.free < needed:  # some network file systems report no size
            full = OSError(
                f"no space: {self.directory} needs {needed / _MEGABYTE:,.1f} MB for a checkpoint, has "
                f"{usage.free / _MEGABYTE:,.1f} MB; free some and run the same command again: "
                "the earlier checkpoints are intact"
            )
            full.errno = errno.ENOSPC
            raise full

    def write(self, state: CheckpointState) -> Path:
        """Write a checkpoint, then remove those that are not to be kept.

        Raises:
            OSError: If there is no space or no permission; the earlier checkpoints are untouched.
        """
        final = self.directory / f"step_{state.step:07}"
        aside = self.directory / f"{_ASIDE}{final.name}"
        try:
            self.remove_leftovers()
            aside.mkdir(parents=True)
            try:
                write_checkpoint(aside, state)
                if final.exists():  # damaged and trained past again, or of the weights before they were averaged
                    final.rename(self.directory / f"{_OLD}{final.name}")
                aside.rename(final)
                sync_directory(self.directory)
            except OSError:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except OSError as error:
            raise self._explain(error) from error
        self._prune()
        return final

    def load_latest(self, *, set_aside: bool = True) -> CheckpointContent | None:
        """Return the latest intact checkpoint, or None if there are none; damaged ones are named in a warning.

        Args:
            set_aside: Rename damaged ones to `.damaged`, so that they are not met again.

        Raises:
            ValueError: If there are checkpoints, but none is intact, which are left as they are; or if another version
                of this package wrote one.
            OSError: If one cannot be read.
        """
        paths, damaged = self._paths(), []
        while paths:
            path = paths.pop()
            try:
                content = read_checkpoint(path)
            except DamagedCheckpointError as error:
                damaged.append(path)
                instead = "; the one before it is used" if paths else ""
                warnings.warn(f"checkpoint {path} is damaged ({error}){instead}", RuntimeWarning, stacklevel=2)
                continue
            if set_aside:
                for other in damaged:
                    kept = other.with_name(f"{other.name}.damaged")
                    shutil.rmtree(kept, ignore_errors=True)
                    other.rename(kept)
            return content
        if damaged:
            raise ValueError(
                f"every checkpoint in {self.directory} is damaged: expected at least one intact; "
                "restore one, or remove them to begin anew"
            )
        return None

    def load_best_model(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and model of the intact checkpoint with the lowest validation loss; if none has one, the latest.

        None if there are no checkpoints; damaged ones are named in a warning.

        Raises:
            ValueError: If none is intact, or another version of this package wrote one.
            OSError: If one cannot be read.
        """
        metas, damaged = {}, False
        for path in reversed(self._paths()):
            try:
                metas[path] = read_meta(path)
            except DamagedCheckpointError as error:
                damaged = self._warn_unless_pruned(path, error) or damaged
        while metas:
            path = _best(metas) or next(iter(metas))
            try:
                return int(metas.pop(path)["step"]), read_model(path)
            except DamagedCheckpointError as error:
                damaged = self._warn_unless_pruned(path, error) or damaged
        if damaged:
            raise ValueError(f"every checkpoint in {self.directory} is damaged: expected at least one intact")
        return None

    def is_empty(self) -> bool:
        """Return whether there is no checkpoint, intact or not."""
        return not self._paths()

    def latest(self) -> Path | None:
        """Return the path of the latest checkpoint, unverified; None if there is none."""
        return next(reversed(self._paths()), None)

    def best(self) -> Path | None:
        """Return the path of the checkpoint with the lowest validation loss, else of the latest; unverified."""
        metas = {path: _meta(path) for path in reversed(self._paths())}
        return _best(metas) or next(iter(metas), None)

    def remove_all(self) -> None:
        """Remove every checkpoint."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove half-written checkpoints of killed processes, and put back one that was being replaced.

        Raises:
            OSError: If it cannot be put back; a leftover that cannot be removed is only warned about.
        """
        for path in self.directory.glob(f"{_OLD}*"):
            final = self.directory / path.name.removeprefix(_OLD)
            if not final.exists():
                path.rename(final)
        for path in self.directory.glob(f"{_ASIDE}*"):
            with self._warning_once(path):
                shutil.rmtree(path)

    def _paths(self) -> list[Path]:
        found = [path for path in self.directory.glob("step_*") if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))

    def _prune(self) -> None:
        metas = {path: _meta(path) for path in self._paths()}
        keep = {*list(metas)[-self.keep :], _best(metas), *self._kept_by_time(metas)}
        for path in metas:
            if path not in keep:
                # Renamed first: a directory that is half removed must not look like a checkpoint.
                with self._warning_once(path):
                    path.rename(self.directory / f"{_ASIDE}{path.name}")
        self.remove_leftovers()

    @contextmanager
    def _warning_once(self, path: Path) -> Iterator[None]:
        """Turn a failed removal into a warning, once: the next save tries again, and lost space is no lost work."""
        try:
            yield
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{path} cannot be removed: {error.strerror or error}; training continues, and later "
                    "saves try again; permit it, or watch the free space",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _kept_by_time(self, metas: dict[Path, dict[str, Any]]) -> list[Path]:
        """Return the first checkpoint of each span: it stays the first, however often later ones are pruned."""
        firsts: dict[int, Path] = {}
        if self.keep_every_seconds is not None:
            for path, meta in metas.items():
                firsts.setdefault(int(meta.get("seconds_training", 0.0) // self.keep_every_seconds), path)
            firsts.pop(0, None)
        return list(firsts.values())

    def _warn_unless_pruned(self, path: Path, error: DamagedCheckpointError) -> bool:
        if is_there := path.exists():  # a run in progress may have removed it in the meantime
            warnings.warn(f"checkpoint {path} is damaged ({error}); another is used", RuntimeWarning, stacklevel=4)
        return is_there

    def _explain(self, error: OSError) -> OSError:
        """Return an error that names the failure and the remedy."""
        reason = error.strerror or error
        explained = type(error)(
            f"cannot save a checkpoint in {self.directory}: {reason}; free some space or permit it, and run the same "
            "command again: the earlier checkpoints are intact"
        )
        explained.errno = error.errno
        return explained


def _meta(path: Path) -> dict[str, Any]:
    try:
        return read_meta(path)
    except (ValueError, OSError):
        return {}


def _best(metas: dict[Path, dict[str, Any]]) -> Path | None:
    # The checkpoint of step 0 measures how long a save takes: nobody wants untrained weights.
    trained = {path: meta for path, meta in metas.items() if meta and meta["step"] > 0}
    losses = {
        path: meta["valid_loss"]
        for path, meta in (trained or metas).items()
        if isinstance(meta.get("valid_loss"), float)
    }
    return min(losses, key=lambda path: losses[path], default=None)
