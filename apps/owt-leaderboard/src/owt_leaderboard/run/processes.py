"""Runs in processes of their own, so that each has a clock and a whole time limit."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from nnscratch.speedrun import Recipe, to_record
from owt_leaderboard.run.decisions import shown_differences
from trainer.experiments.results import FAILURE_FILE, write_failure
from trainer.experiments.running.processes import RunProcess, StartedRun, core_share, run_side_by_side
from trainer.experiments.running.progress import ExperimentProgress
from trainer.support.files import make_directory

if TYPE_CHECKING:
    from trainer.experiments.running.ray_engine import RayEngine

COMMAND_FILE = "command.json"


class PlannedRun(NamedTuple):
    """A run to make in a process of its own."""

    run_dir: Path
    command: Sequence[str]
    """A module and its arguments, as for `python -m`, without --out."""
    recipe: Recipe
    """The recipe that the command trains, before sizes are chosen."""


def finished(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run; None if it is not finished, or with a warning if the file is damaged."""
    from trainer.records import RunDirectory

    summary = RunDirectory(run_dir).read_summary()
    return None if summary is None else summary.to_json()


def complete(run: PlannedRun, notify: Callable[[str], None]) -> dict[str, Any] | None:
    """`complete_all` for one run; return its summary, or None if it failed, which is reported."""
    results = []
    complete_all([run], 1, notify, lambda _, summary: results.append(summary))
    return results[0]


def complete_all(
    runs: Sequence[PlannedRun],
    jobs: int,
    notify: Callable[[str], None],
    ended: Callable[[PlannedRun, dict[str, Any] | None], None],
    engine: "RayEngine | None" = None,
) -> None:
    """Start or resume runs in this order, `jobs` at a time.

    Command and recipe are recorded beside a run, so that no result is taken for that of another command, or of another
    version of the app with other defaults. Each run has a torch.compile cache of its own, which is removed after it: a
    warm cache would make later runs faster than earlier ones. Several jobs get equal shares of the processor's cores;
    a single one gets torch's default.

    Args:
        runs: The runs; finished ones are not started.
        jobs: Processes at the same time.
        notify: Receives lines about the progress of all runs, and one for each run that failed; the report finds that
            in the run's `failure.json`.
        ended: Called with each run and its summary, None if it failed.
        engine: The cluster to train on instead of this machine, which decides how many runs it has room for.

    Raises:
        KeyboardInterrupt: If this process or a run was interrupted. The others have saved their progress, and the next
            call resumes them.
        ValueError: If the input of a run was wrong, or a directory has another run. The others have saved their
            progress.
    """
    unfinished = []
    for run in runs:
        _record(run)
        if (summary := finished(run.run_dir)) is None:
            unfinished.append(run)
        else:
            ended(run, summary)
    progress = ExperimentProgress(len(unfinished), notify)
    with TemporaryDirectory(prefix="compiled-") as compiled, progress:

        def start(run: PlannedRun, slot: int) -> StartedRun:
            progress.begin(run.run_dir.name, run.run_dir)
            name, arguments = run.run_dir.name, ["-m", *run.command, "--out", str(run.run_dir)]
            (run.run_dir / FAILURE_FILE).unlink(missing_ok=True)  # of an earlier attempt
            if engine is not None:
                return engine.start(name, arguments, run.run_dir / "summary.json")
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(Path(compiled, name))}
            if jobs > 1:
                environment["OMP_NUM_THREADS"] = str(core_share(jobs))
            return RunProcess(name, arguments, environment)

        def over(run: PlannedRun, process: StartedRun) -> None:
            failure = process.failure()
            progress.end(run.run_dir.name)
            shutil.rmtree(Path(compiled, process.name), ignore_errors=True)
            summary = finished(run.run_dir)  # a run that diverged has an exit code of failure and a summary
            if summary is None:
                failure = failure or "the process ended without a summary"
                write_failure(run.run_dir, failure)
                notify(f"{process.name}: {failure}")
            ended(run, summary)

        run_side_by_side(unfinished, jobs if engine is None else engine.share.at_once, start, over)


def _record(run: PlannedRun) -> None:
    """Record command and recipe of a new run, or compare them with those of an existing one."""
    from trainer import write_atomically
    from trainer.records import read_object

    path, now = run.run_dir / COMMAND_FILE, {"command": " ".join(run.command), "recipe": to_record(run.recipe)}
    if not path.exists() and finished(run.run_dir) is None:
        make_directory(run.run_dir)
        write_atomically(path, json.dumps(now, indent=2).encode("utf-8") + b"\n")
        return
    before = read_object(path) if path.exists() else {}
    if before != now:
        shown = shown_differences(before, now) if before else "its command is not recorded"
        raise ValueError(
            f"{run.run_dir} has another run: {shown}. Repeat its command to resume it, or choose another directory "
            "with --out"
        )
