"""Store of a run's checkpoints: safe writing, pruning, and choosing the checkpoint to read."""

from __future__ import annotations

import errno
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.checkpoints.directory import (
    CheckpointState,
    Checksums,
    DamagedCheckpointError,
    read_checkpoint,
    read_meta,
    read_model,
    write_rest,
    write_tensors,
)
from trainer.support.files import explained, move, sync_directory

_NAME = re.compile(r"step_(\d{7,})")
# Prefixes of temporary names: a directory being written or removed, and a checkpoint being replaced.
_ASIDE = ".aside-"
_OLD = f"{_ASIDE}old-"
_MEGABYTE = 1_000_000
_UNREAD = "unread"


class CheckpointStore:
    """Checkpoints of one run.

    Each checkpoint is a directory with checksums. It is written under a temporary name and then renamed, so a killed
    process leaves no half-written checkpoint under the final name.

    Args:
        directory: Folder that holds the checkpoints.
        keep: Number of latest checkpoints to keep, besides the checkpoint with the lowest validation loss. Step 0,
            whose weights are untrained, counts as the best only if there is no other.
        keep_every_seconds: Length of a span of training time. The first checkpoint of each span is never pruned,
            except in the first span. None keeps no checkpoints in this way.
    """

    def __init__(self, directory: Path, keep: int, keep_every_seconds: float | None = None) -> None:
        self.directory = directory
        self.keep = keep
        self.keep_every_seconds = keep_every_seconds
        self._has_warned = False
        self._written: Checksums = {}
        """Files that `begin` has written."""
        self.seconds_completing = 0.0
        """Seconds that the last `complete` took."""

    def check_space(self, num_bytes: int) -> None:
        """Check that the disk has space for a checkpoint of this size, and a margin.

        Raises:
            OSError: If the space is too small, or the folder cannot be created.
        """
        needed = num_bytes + num_bytes // 50 + 2 * _MEGABYTE  # margin: names, numbers, the run's records
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(self.directory)
        except OSError as error:
            raise self._explain(error) from error
        if usage.total > 0 and usage.free < needed:  # some network file systems report no size
            full = OSError(
                f"no space: {self.directory} needs {needed / _MEGABYTE:,.1f} MB for a checkpoint, has "
                f"{usage.free / _MEGABYTE:,.1f} MB; free some space and run the same command again: "
                "the earlier checkpoints are intact"
            )
            full.errno = errno.ENOSPC
            raise full

    def write(self, state: CheckpointState) -> Path:
        """Write a checkpoint, then remove the checkpoints that need not be kept.

        Raises:
            OSError: If there is no space or no permission; the earlier checkpoints are untouched.
        """
        self.begin(state)
        return self.complete(state)

    def begin(self, state: CheckpointState) -> None:
        """Write weights and optimizer of a checkpoint under a temporary name, in place of any that was begun before.

        Raises:
            OSError: As `write`.
        """
        with self._writing(state.step) as aside:
            self.remove_leftovers()
            aside.mkdir(parents=True)
            self._written = write_tensors(aside, state)

    def complete(self, state: CheckpointState) -> Path:
        """Write the rest of the checkpoint that `begin` has begun and rename it, then remove those not to be kept.

        Args:
            state: State of the same step, with the same weights and optimizer.

        Raises:
            OSError: As `write`.
        """
        began, final = time.perf_counter(), self.path(state.step)
        with self._writing(state.step) as aside:
            write_rest(aside, state, self._written)
            # The step may have a checkpoint: a damaged one that the run has reached again, or one before averaging.
            if final.exists():
                move(final, self.directory / f"{_OLD}{final.name}")
            move(aside, final)
            sync_directory(self.directory)
        self._prune()
        self.seconds_completing = time.perf_counter() - began
        return final

    def load_latest(self, *, set_aside: bool = True) -> CheckpointState | None:
        """Return the latest intact checkpoint; None if there are no checkpoints. Damaged ones cause a warning.

        Args:
            set_aside: Rename damaged checkpoints to `.damaged`, so that later calls skip them.

        Raises:
            ValueError: If every checkpoint is damaged (none is then renamed), or if another version of this package
                wrote a checkpoint.
            OSError: If a checkpoint cannot be read.
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
                    move(other, kept)
            return content
        if damaged:
            raise ValueError(
                f"every checkpoint in {self.directory} is damaged: expected at least one intact; "
                "restore one, or remove them to begin anew"
            )
        return None

    def load_best_model(self) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
        """Return path, `meta.json` and model's state of the intact checkpoint with the lowest validation loss.

        Without any validation loss, the latest checkpoint is taken. Without checkpoints, the result is None. Damaged
        checkpoints cause a warning.

        Raises:
            ValueError: If every checkpoint is damaged, or another version of this package wrote a checkpoint.
            OSError: If a checkpoint cannot be read.
        """
        metas, damaged = {}, False
        for path in reversed(self._paths()):
            try:
                metas[path] = read_meta(path)
            except DamagedCheckpointError as error:
                damaged = self._warn_unless_pruned(path, error) or damaged
        while metas:
            path = _best(metas) or next(iter(metas))  # the first one is the latest
            try:
                return path, metas.pop(path), read_model(path)
            except DamagedCheckpointError as error:
                damaged = self._warn_unless_pruned(path, error) or damaged
        if damaged:
            raise ValueError(f"every checkpoint in {self.directory} is damaged: expected at least one intact")
        return None

    def path(self, step: int) -> Path:
        """Return the directory of the checkpoint of a step, which need not exist."""
        return self.directory / f"step_{step:07}"

    def is_empty(self) -> bool:
        """Return whether there is no checkpoint, intact or not."""
        return not self._paths()

    def latest(self) -> Path | None:
        """Return the path of the latest checkpoint, without verifying it; None if there is none."""
        return next(reversed(self._paths()), None)

    def best(self) -> Path | None:
        """Return the path of the checkpoint with the lowest validation loss, without verifying it.

        Without any validation loss, the path of the latest; None if there are no checkpoints.
        """
        metas = {path: _meta(path) for path in reversed(self._paths())}
        return _best(metas) or next(iter(metas), None)

    def remove_all(self) -> None:
        """Remove every checkpoint."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove half-written checkpoints of killed processes, and restore a checkpoint that was being replaced.

        A leftover that cannot be removed only causes a warning.

        Raises:
            OSError: If a checkpoint cannot be restored.
        """
        for path in self.directory.glob(f"{_OLD}*"):
            final = self.directory / path.name.removeprefix(_OLD)
            if not final.exists():
                move(path, final)
        for path in self.directory.glob(f"{_ASIDE}*"):
            with self._warning_once(path):
                shutil.rmtree(path)

    @contextmanager
    def _writing(self, step: int) -> Iterator[Path]:
        """Give the temporary directory of a checkpoint; an error that the system raises removes it."""
        aside = self.directory / f"{_ASIDE}{self.path(step).name}"
        try:
            yield aside
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise self._explain(error) from error

    def _paths(self) -> list[Path]:
        found = [path for path in self.directory.glob("step_*") if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))

    def _prune(self) -> None:
        metas = {path: _meta(path) for path in self._paths()}
        unread = [path for path, meta in metas.items() if _UNREAD in meta]  # one of them may be the best
        keep = {*list(metas)[-self.keep :], _best(metas), *self._kept_by_time(metas), *unread}
        for path in metas:
            if path not in keep:
                # Renamed first: a directory that is half removed must not look like a checkpoint.
                with self._warning_once(path):
                    move(path, self.directory / f"{_ASIDE}{path.name}")
        self.remove_leftovers()

    @contextmanager
    def _warning_once(self, path: Path) -> Iterator[None]:
        """Turn the first failed removal into a warning, and ignore the others.

        The next save tries again, and wasted space is no reason to stop training.
        """
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
        """Return the first checkpoint of each span but the first. Pruning never removes it, so it stays the first."""
        firsts: dict[int, Path] = {}
        if self.keep_every_seconds is not None:
            for path, meta in metas.items():
                firsts.setdefault(int(meta.get("seconds_training", 0.0) // self.keep_every_seconds), path)
            firsts.pop(0, None)
        return list(firsts.values())

    def _warn_unless_pruned(self, path: Path, error: DamagedCheckpointError) -> bool:
        """Warn of a damaged checkpoint, and return True; return False if a run in progress has just pruned it."""
        if is_there := path.exists():
            warnings.warn(f"checkpoint {path} is damaged ({error}); another is used", RuntimeWarning, stacklevel=4)
        return is_there

    def _explain(self, error: OSError) -> OSError:
        """Return an error of the same type whose message names the folder, the reason and the remedy."""
        return explained(
            error,
            f"cannot save a checkpoint in {self.directory}: {error.strerror or error}; free some space or permit it, "
            "and run the same command again: the earlier checkpoints are intact",
        )


def _meta(path: Path) -> dict[str, Any]:
    """Return the values in `meta.json`; {} if it is damaged, and `_UNREAD` alone if the system could not read it."""
    try:
        return read_meta(path)
    except (ValueError, OSError) as error:
        reason = error.__cause__ or error
        is_unread = isinstance(reason, OSError) and not isinstance(reason, FileNotFoundError)
        return {_UNREAD: True} if is_unread else {}


def _best(metas: dict[Path, dict[str, Any]]) -> Path | None:
    # Step 0 is saved only to measure how long a save takes; its weights are untrained.
    trained = {path: meta for path, meta in metas.items() if meta.get("step", 0) > 0}
    losses = {
        path: meta["valid_loss"]
        for path, meta in (trained or metas).items()
        if isinstance(meta.get("valid_loss"), float)
    }
    return min(losses, key=lambda path: losses[path], default=None)
