"""Runs of a step on one of datatrove's executors, and the record of their settings that keeps results together."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, DataFolderLike

from bpe.cluster.shards import local_copy, open_folder, written_to
from bpe.cluster.steps import CountPretokens, EncodeShards, add_up
from bpe.files import write_text
from bpe.threads import check_threads
from bpe.training import PretokenCounts

SETTINGS = "cluster.json"
_SHOWN = 5


def make_executor(
    kind: Literal["local", "ray", "slurm"],
    step: CountPretokens | EncodeShards,
    *,
    tasks: int | None = None,
    workers: int | None = None,
    memory_per_cpu: int = 2,
    logging_dir: DataFolderLike | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> PipelineExecutor:
    """Return the executor of a step, which gives each task as many CPUs as the step has threads.

    Args:
        kind: "local" for processes of this machine, "ray" for the Ray cluster that this process belongs to, "slurm".
        step: The step.
        tasks: The number of parts into which the shards are divided; None means one for each shard.
        workers: The number of tasks that run at once; None: as many as this machine has cores for ("local"), or no
            limit.
        memory_per_cpu: Gigabytes that Ray or Slurm reserves for each CPU.
        logging_dir: The folder of logs and of the markers of completed tasks; None means `logs` in the output.
        slurm: Further arguments of `SlurmPipelineExecutor`, of which `partition` and `time` are needed.

    Raises:
        ValueError: If a number is below 1, or Ray is asked for and missing.
    """
    tasks = len(step.shards) if tasks is None else tasks
    for name, number in (
        ("tasks", tasks),
        ("workers", 1 if workers is None else workers),
        ("memory_per_cpu", memory_per_cpu),
    ):
        if number < 1:
            raise ValueError(f"{name} is {number}, expected at least 1")
    logs = open_folder(step.output.resolve_paths("logs") if logging_dir is None else logging_dir)
    if kind == "local":
        at_once = max(1, check_threads(None) // step.threads) if workers is None else workers
        method = "spawn" if sys.platform == "win32" else "forkserver"
        return LocalPipelineExecutor([step], tasks, min(tasks, at_once), logs, start_method=method)
    shared = {"tasks": tasks, "workers": -1 if workers is None else workers, "logging_dir": logs}
    shared |= {"cpus_per_task": step.threads, "mem_per_cpu_gb": memory_per_cpu}
    if kind == "ray":
        if find_spec("ray") is None:
            raise ValueError("the executor ray needs Ray, which is not installed; run: pip install ray")
        return RayPipelineExecutor([step], **shared)
    # srun does not take over the number of CPUs that sbatch was given.
    options = {"qos": None, "job_name": f"bpe {step.name}", "srun_args": {"cpus-per-task": step.threads}}
    return SlurmPipelineExecutor([step], **shared, **options, **(slurm or {}))


def run(executor: PipelineExecutor) -> None:
    """Run the tasks that are not complete, or submit them to Slurm, after a check that the settings are the same.

    Raises:
        ChildProcessError: If tasks have failed.
        ValueError: If the output or the logs are those of a run with other settings.
    """
    step = executor.pipeline[0]
    settings = _settings(step, executor.world_size)
    for folder in (step.output, executor.logging_dir):
        _record(folder, settings)
    executor.run()
    executor.logging_dir.invalidate_cache()  # file systems such as S3's remember the list of files
    missing = executor.get_incomplete_ranks(skip_completed=True)
    if missing and not isinstance(executor, SlurmPipelineExecutor):
        raise ChildProcessError(
            f"{len(missing)} of {executor.world_size} tasks have failed ({_some(missing)}); see their logs in "
            f"{executor.logging_dir.resolve_paths('logs')!r}, and start the same command again to repeat only these"
        )


def load_counts(folder: DataFolderLike, min_count: int = 1) -> PretokenCounts:
    """Return the sum of the counts that a run has written to a folder.

    Pre-tokens that occur less often than `min_count` in the whole corpus are left out. With more than 1 the merges are
    no longer exactly those of the corpus, but rare pre-tokens are many: they need a third to a half of the memory.

    Raises:
        ValueError: If counts are missing or damaged, or the folder has none.
    """
    counts = open_folder(folder)
    counts.invalidate_cache()
    settings = _recorded(counts)
    if settings is None or settings.get("step") != CountPretokens.name:
        raise ValueError(f"folder {counts.resolve_paths('')!r} has no counts; make them with `cluster count`")
    names = [f"{rank:05d}.counts" for rank in range(min(settings["tasks"], len(settings["shards"])))]
    files = set(counts.list_files(recursive=False))
    missing = [name for name in names if name not in files]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} counts in {counts.resolve_paths('')!r} are missing ({_some(missing)}); "
            "wait for their tasks, or start the same `cluster count` again; if it calls them complete, delete its logs"
        )

    def load(name: str) -> PretokenCounts:
        with local_copy(counts, name) as path:
            return PretokenCounts.load(path)

    total = add_up(map(load, names))
    return total if min_count <= 1 else _frequent(total, min_count)


def _frequent(counts: PretokenCounts, min_count: int) -> PretokenCounts:
    """Return the counts of at least `min_count`."""
    import numpy as np

    pretokens, offsets, numbers = counts.arrays()
    kept, lengths = numbers >= min_count, np.diff(offsets)
    return PretokenCounts.from_arrays(
        pretokens[np.repeat(kept, lengths)],
        np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths[kept]))),
        numbers[kept],
        pattern=counts.pattern,
        special_tokens=counts.special_tokens,
    )


def _settings(step: CountPretokens | EncodeShards, tasks: int) -> dict[str, Any]:
    """Return everything that decides which files a run writes and what is in them."""
    settings = {"step": step.name, "tasks": tasks, "column": step.column, "shards": step.shards}
    if isinstance(step, CountPretokens):
        pattern = step.pattern if isinstance(step.pattern, str) else list(step.pattern)  # as JSON reads it
        return settings | {"pattern": pattern, "special_tokens": step.special_tokens}
    return settings | {"format": step.format, "documents": step.documents, "tokenizer_sha256": step.spec.sha256}


def _record(folder: DataFolder, settings: dict[str, Any]) -> None:
    """Write the settings to a folder, or check that they are those of the run that wrote there."""
    recorded = _recorded(folder)
    if recorded is None:
        with written_to(folder, SETTINGS) as path:
            write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    for name in settings:
        if recorded.get(name) != settings[name]:
            raise ValueError(
                f"folder {folder.resolve_paths('')!r} belongs to a run with another value of {name!r}: "
                f"{_shortened(recorded.get(name))}, now {_shortened(settings[name])}; give another folder, or delete it"
            )


def _recorded(folder: DataFolder) -> dict[str, Any] | None:
    """Return the settings that were written to a folder, or None."""
    if not folder.isfile(SETTINGS):
        return None
    with local_copy(folder, SETTINGS) as path:
        settings = json.loads(path.read_text("utf-8"))
    return settings if isinstance(settings, dict) else {}


def _some(items: list[Any]) -> str:
    """Return the first items as a text."""
    return ", ".join(map(str, items[:_SHOWN])) + (", …" if len(items) > _SHOWN else "")


def _shortened(value: Any) -> str:
    """Return a setting as a short text."""
    if isinstance(value, list):
        return f"{len(value)} items ({_some(value)})"
    return repr(value)
