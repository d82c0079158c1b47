"""Runs in processes of their own, so that each has a clock and a whole time limit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class DataFlags:
    """What all of the runs share."""

    dataset: str = "sample"
    """"sample", "owt" or the path of a text file, as for `python -m owt_leaderboard`."""
    valid_dataset: Path | None = None
    """Validation text; without it the last documents of --dataset are held out."""
    valid_bytes: int = 0
    """Use only the first documents of the validation text, up to this many bytes; 0 uses all of it."""
    data_dir: Path = Path("data")
    """Where tokenizers and token files are kept, to be found again."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""

    def arguments(self) -> list[str]:
        """The same, for the command line of a run."""
        words = ["--dataset", self.dataset, "--data-dir", str(self.data_dir), "--device", self.device]
        if self.valid_dataset is not None:
            words += ["--valid-dataset", str(self.valid_dataset)]
        if self.valid_bytes:
            words += ["--valid-bytes", str(self.valid_bytes)]
        return words

    @property
    def name(self) -> str:
        """The name of the data set."""
        return Path(self.dataset).name.split(".")[0]


def finished(run_dir: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None if it is not finished."""
    path = run_dir / "summary.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


def complete(
    run_dir: Path, arguments: Sequence[str], notify: Callable[[str], None], threads: int | None = None
) -> dict[str, Any] | None:
    """Make a run, or go on with it, and return its summary; None if it failed, which is told.

    What torch.compile keeps on the disk is the run's own, and gone after it: runs would be the faster, the more of
    them have been made before, and those alike in their model more than others.

    Args:
        run_dir: where.
        arguments: for `python -m owt_leaderboard`, without --out.
        notify: gets lines worth telling.
        threads: of the run on a CPU; None leaves them to torch.

    Raises:
        KeyboardInterrupt: the run was interrupted; it goes on with the next call.
        ValueError: its input was wrong.
    """
    if (summary := finished(run_dir)) is not None:
        return summary
    command = [sys.executable, "-m", "owt_leaderboard", *arguments, "--out", str(run_dir)]
    with TemporaryDirectory(prefix="compiled-") as compiled:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": compiled}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        done = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode == 2:
        raise ValueError(f"{run_dir.name}: {done.stderr.strip()}")
    if done.returncode not in (0, 1):  # 1 has diverged, and left a summary
        notify(f"{run_dir.name} failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return finished(run_dir)


def complete_all(
    runs: Sequence[tuple[Path, Sequence[str]]], jobs: int, notify: Callable[[str], None]
) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """`complete` all runs, several at a time, and yield directory and summary of each as it ends.

    Args:
        runs: directory and arguments of each, in the order in which they begin.
        jobs: how many at a time, with equal shares of the processor's cores; with one, it has what torch gives it.
        notify: gets lines worth telling.

    Raises:
        KeyboardInterrupt: a run was interrupted; no other begins.
        ValueError: the input of a run was wrong; no other begins.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(complete, out, arguments, notify, threads): out for out, arguments in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
