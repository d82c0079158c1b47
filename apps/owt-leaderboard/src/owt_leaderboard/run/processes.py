"""Runs in processes of their own, so that each has a clock and a whole time limit."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from owt_leaderboard.recipe import Recipe, to_record
from owt_leaderboard.run.decisions import shown_differences

COMMAND_FILE = "command.json"


class PlannedRun(NamedTuple):
    """A run to make in a process of its own."""

    run_dir: Path
    command: Sequence[str]
    """A module and its arguments, as for `python -m`, without --out."""
    recipe: Recipe
    """The recipe that the command trains, before sizes are chosen."""


def finished(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run; None if it is not finished."""
    path = run_dir / "summary.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


def complete(run: PlannedRun, notify: Callable[[str], None], threads: int | None = None) -> dict[str, Any] | None:
    """Start or resume a run, and return its summary; None if it failed, which is reported.

    Command and recipe are recorded beside the run, so that no result is taken for that of another command, or of
    another version of the app with other defaults. Each run has a torch.compile cache of its own, which is removed
    after it: a warm cache would make later runs faster than earlier ones. With `threads` None, torch chooses how many.

    Raises:
        KeyboardInterrupt: If the run was interrupted; the next call resumes it.
        ValueError: If its input was wrong, or the directory has another run.
    """
    run_dir = run.run_dir
    _record(run)
    if (summary := finished(run_dir)) is not None:
        return summary
    words = [sys.executable, "-m", *run.command, "--out", str(run_dir)]
    with TemporaryDirectory(prefix="compiled-") as compiled:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": compiled}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        done = subprocess.run(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode == 2:
        raise ValueError(f"{run_dir.name}: {done.stderr.strip()}")
    summary = finished(run_dir)  # which a run that diverged also leaves
    if summary is None:
        notify(f"{run_dir.name} failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return summary


def _record(run: PlannedRun) -> None:
    """Record command and recipe of a new run, or compare them with those of an existing one."""
    from trainer import write_atomically

    path, now = run.run_dir / COMMAND_FILE, {"command": " ".join(run.command), "recipe": to_record(run.recipe)}
    if not path.exists() and finished(run.run_dir) is None:
        run.run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(now, indent=2).encode("utf-8") + b"\n")
        return
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if before != now:
        shown = shown_differences(before, now) if isinstance(before, dict) and before else "its command is not recorded"
        raise ValueError(
            f"{run.run_dir} has another run: {shown}. Repeat its command to resume it, or choose another directory "
            "with --out"
        )


def complete_all(
    runs: Sequence[PlannedRun], jobs: int, notify: Callable[[str], None]
) -> Iterator[tuple[PlannedRun, dict[str, Any] | None]]:
    """`complete` all runs in this order, `jobs` at a time, and yield each with its summary as it ends.

    Several jobs get equal shares of the processor's cores; a single one gets torch's default.

    Raises:
        KeyboardInterrupt: If a run was interrupted; no other run starts.
        ValueError: If the input of a run was wrong; no other run starts.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    is_over = threading.Event()

    def one(run: PlannedRun) -> dict[str, Any] | None:
        if is_over.is_set():
            return None
        try:
            return complete(run, notify, threads)
        except BaseException:
            is_over.set()
            raise

    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(one, run): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
