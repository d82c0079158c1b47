"""Runs in processes of their own, so that each has a clock and a whole time limit."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from owt_leaderboard.budget.sizing import SIZE_NAMES
from owt_leaderboard.recipe.recipes import Recipe


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


def check_recipe(run_dir: Path, recipe: Recipe) -> None:
    """Check that a run that is there already has this recipe, which another version of the app may have had otherwise.

    Args:
        run_dir: of the run, if there is one.
        recipe: before sizes are chosen; what only the run itself decides is not compared.

    Raises:
        ValueError: it has another one.
    """
    from trainer import read_config

    if not (run_dir / "config.json").exists():
        return
    recorded = read_config(run_dir)["recorded"]["recipe"]
    decided = {"seed", "compile"} | ({*SIZE_NAMES, "batch_ramp", "masked_inputs"} if recipe.sized_by_budget else set())
    given = json.loads(json.dumps(asdict(recipe)))
    different = [name for name in given if name not in decided and recorded.get(name, given[name]) != given[name]]
    if different:
        shown = "; ".join(f"{name} was {recorded[name]!r}, now {given[name]!r}" for name in different[:3])
        raise ValueError(f"{run_dir} has a run of another recipe: {shown}; choose another directory with --out")


def finished(run_dir: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None if it is not finished."""
    path = run_dir / "summary.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


COMMAND_FILE = "command.json"


def complete(
    run_dir: Path, command: Sequence[str], notify: Callable[[str], None], threads: int | None = None
) -> dict[str, Any] | None:
    """Make a run, or go on with it, and return its summary; None if it failed, which is told.

    The command is kept beside the run, so that no result is taken for that of another command.

    What torch.compile keeps on the disk is the run's own, and gone after it: runs would be the faster, the more of
    them have been made before, and those alike in their model more than others.

    Args:
        run_dir: where.
        command: what `python -m` is given, a module and its arguments, without --out.
        notify: gets lines worth telling.
        threads: of the run on a CPU; None leaves them to torch.

    Raises:
        KeyboardInterrupt: the run was interrupted; it goes on with the next call.
        ValueError: its input was wrong, or the directory has a run of another command.
    """
    _keep_command(run_dir, list(command))
    if (summary := finished(run_dir)) is not None:
        return summary
    words = [sys.executable, "-m", *command, "--out", str(run_dir)]
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
    summary = finished(run_dir)  # also of one that has diverged
    if summary is None:
        notify(f"{run_dir.name} failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return summary


def _keep_command(run_dir: Path, command: list[str]) -> None:
    """Write down what a run is made with, or compare it with what was written down."""
    from trainer import write_atomically

    path = run_dir / COMMAND_FILE
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
    elif finished(run_dir) is not None:
        before = ["(not written down)"]
    else:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(command, indent=2).encode("utf-8") + b"\n")
        return
    if before != command:
        raise ValueError(
            f"{run_dir} has a run of another command: {' '.join(before)}; now it is: {' '.join(command)}. Repeat that "
            "one to go on with it, or choose another directory with --out"
        )


def complete_all(
    runs: Sequence[tuple[Path, Sequence[str]]], jobs: int, notify: Callable[[str], None]
) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """`complete` all runs, several at a time, and yield directory and summary of each as it ends.

    Args:
        runs: directory and command of each, in the order in which they begin.
        jobs: how many at a time, with equal shares of the processor's cores; with one, it has what torch gives it.
        notify: gets lines worth telling.

    Raises:
        KeyboardInterrupt: a run was interrupted; no other begins.
        ValueError: the input of a run was wrong; no other begins.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    is_over = threading.Event()

    def one(run_dir: Path, command: Sequence[str]) -> dict[str, Any] | None:
        if is_over.is_set():
            return None
        try:
            return complete(run_dir, command, notify, threads)
        except BaseException:
            is_over.set()
            raise

    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(one, out, command): out for out, command in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
