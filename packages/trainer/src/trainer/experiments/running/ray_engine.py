"""Runs on a Ray cluster: one task per run, whose process is that of `processes` on another machine (extra `ray`).

A task whose worker is lost starts again on another machine, where its run resumes from its checkpoint. The process of a
lost worker ends with it (`follow_parent`). The lock of a run directory keeps a second process out until that has
happened.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from trainer.experiments.running.processes import INTERRUPTED, WRONG_INPUT, RunProcess, failure_of, was_interrupted
from trainer.support.files import make_directory

if TYPE_CHECKING:
    from concurrent.futures import Future

EngineName = Literal["local", "ray"]
ADDRESS = "RAY_ADDRESS"
RETRIES = 3
"""Times that Ray starts a run again whose worker was lost, which is Ray's default."""
LOCK_SECONDS = 180.0
"""Time that a run waits for the lock of its directory. NFS keeps those of a lost machine for 90 s by default."""
SEEN_SECONDS = 90.0
"""Time until the end of a run must be seen here. NFS may remember for 60 s that a file was missing."""
_POLL_SECONDS = 0.05
_OBJECT_STORE_BYTES = 100_000_000  # of a local Ray: only exit codes and messages go through it


class Share(NamedTuple):
    """Resources of a run, and the number of runs that a cluster has room for."""

    cpus: int
    gpus: int
    at_once: int

    def __str__(self) -> str:
        gpu = "1 GPU and " if self.gpus else ""
        return f"up to {self.at_once} runs at once, each with {gpu}{self.cpus} CPU{'s' * (self.cpus != 1)}"


class PreemptedError(Exception):
    """A signal on another machine, and not this command, has ended a run: the machine is about to be taken away."""


class Outcome(NamedTuple):
    """End of a task."""

    code: int
    stderr: str
    seconds: float


def check_engine(engine: EngineName) -> None:
    """Refuse the engine ray where Ray is missing.

    Raises:
        ModuleNotFoundError: Ray is asked for and not installed.
    """
    if engine == "ray" and find_spec("ray") is None:
        raise ModuleNotFoundError(
            "--engine ray needs Ray, which is not installed here: pip install ray (or packages/trainer[ray])"
        )


def share_of(machines: Sequence[tuple[float, float]], *, device: str, jobs: int, threads: int | None = None) -> Share:
    """Choose the resources of a run.

    On a cluster with GPUs a run has one of them, with its share of the machine's CPUs. Otherwise the CPUs of a machine
    are shared by `jobs` runs. All runs have the same share, so that they are comparable: that of the machine where it
    is smallest.

    Args:
        machines: CPUs and GPUs of each machine.
        device: "auto" or "cpu", which uses no GPU.
        jobs: Runs at the same time on each machine without GPUs.
        threads: CPUs of a run, if they are given.

    Raises:
        ValueError: The device is another one, or no machine has enough CPUs.
    """
    if device not in ("auto", "cpu"):
        raise ValueError(f"--device {device} with --engine ray: Ray gives each run its device; expected auto or cpu")
    if device == "auto" and (with_gpus := [(int(cpus), int(gpus)) for cpus, gpus in machines if gpus >= 1]):
        each = threads or min(cpus // gpus for cpus, gpus in with_gpus)
        return _checked(Share(each, 1, sum(min(gpus, cpus // each if each else gpus) for cpus, gpus in with_gpus)))
    counts = [int(cpus) for cpus, _ in machines if cpus >= 1]
    each = threads or max(1, min(counts, default=1) // jobs)
    return _checked(Share(each, 0, sum(cpus // each for cpus in counts)))


def _checked(share: Share) -> Share:
    if share.at_once < 1:
        raise ValueError(
            f"no machine of the Ray cluster has {share.cpus} CPUs for a run: set OMP_NUM_THREADS to a smaller number, "
            "or start Ray with more CPUs"
        )
    return share


class RayEngine:
    """The Ray cluster of `RAY_ADDRESS`, or a Ray of this machine alone, which ends with this process.

    The cluster's machines need this environment and these paths. Each of them is asked whether it sees the directory of
    the runs and the files.

    Args:
        out: Directory of the runs, which is created.
        files: Files that the runs read.
        device: "auto" or "cpu".
        jobs: Runs at the same time on each machine without GPUs.

    Raises:
        ValueError: The cluster cannot be joined, a machine does not see a path, or none has the device.
    """

    def __init__(self, out: Path, files: Sequence[Path], *, device: str, jobs: int) -> None:
        import ray

        _join()
        machines = [node for node in ray.nodes() if node["Alive"]]
        resources = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in machines]
        threads = os.environ.get("OMP_NUM_THREADS", "")
        self.share = share_of(resources, device=device, jobs=jobs, threads=int(threads) if threads.isdigit() else None)
        _check_devices(device, bool(self.share.gpus))
        make_directory(out)
        # Only the directory itself has this file. It lives as long as this object, for machines that join later.
        self._marker = NamedTemporaryFile(prefix=".shared-", dir=out)  # noqa: SIM115
        self._needed = [Path(self._marker.name).resolve(), *(path.resolve() for path in files)]
        resources_of_a_run = {"num_cpus": self.share.cpus, "num_gpus": self.share.gpus}
        self._options = {**resources_of_a_run, "max_retries": RETRIES, "retry_exceptions": [PreemptedError]}
        fitting = [
            node["NodeID"]
            for node, (cpus, gpus) in zip(machines, resources, strict=True)
            if cpus >= self.share.cpus and gpus >= self.share.gpus
        ]
        self._check_paths(fitting)
        print(f"Ray: {len(fitting)} machine{'s' * (len(fitting) != 1)}, {self.share}")

    def close(self) -> None:
        """Remove the file by which machines recognise the directory; no run can start any more."""
        self._marker.close()

    def start(self, name: str, arguments: Sequence[str], result: Path, text: str = "") -> RayRun:
        """Start a run as soon as the cluster has room for it.

        Args:
            name: Name of the run, for messages.
            arguments: Arguments of the interpreter, such as `-m` and a module.
            result: File that is complete when the run is. Its directory may have a lock.
            text: Standard input.
        """
        import ray

        task = ray.remote(run_here).options(name=name, **self._options)
        here = Path.cwd()
        call = (name, list(arguments), text, max(1, self.share.cpus), here, self._needed, here / result)
        return RayRun(name, task.remote(*call), result)

    def _check_paths(self, nodes: Sequence[str]) -> None:
        """Ask each machine for the paths."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = ray.remote(blind_spot)
        places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        asked = [task.options(num_cpus=0, scheduling_strategy=place).remote(self._needed) for place in places]
        for problem in ray.get(asked):
            if problem is not None:
                raise ValueError(problem)


class RayRun:
    """A run on a Ray cluster; a `StartedRun`."""

    def __init__(self, name: str, reference: Any, result: Path) -> None:
        self.name = name
        self._began = time.perf_counter()
        self._reference = reference
        self._future: Future[Outcome] = reference.future()
        self._result = result
        self._outcome: Outcome | None = None

    @property
    def seconds(self) -> float:
        """Time of the run's last process; while it runs, the time since `start`."""
        return time.perf_counter() - self._began if self._outcome is None else self._outcome.seconds

    @property
    def has_ended(self) -> bool:
        """True if the task has ended."""
        return self._future.done()

    @property
    def stderr(self) -> str:
        """Standard error of the run's last process, after its end."""
        return self._ended().stderr

    def interrupt(self) -> None:
        """Cancel the task: one that waits does not begin, and a running one interrupts its process."""
        import ray

        ray.cancel(self._reference)

    def wait(self) -> int:
        """Wait for the end of the task; return the exit code of its process, or that of an interruption."""
        return self._ended().code

    def failure(self) -> str | None:
        """Wait for the end; return how the run failed, or None.

        Raises:
            KeyboardInterrupt: If the run was interrupted.
            ValueError: If its input was wrong.
        """
        outcome = self._ended()
        if (failure := failure_of(self.name, outcome.code, outcome.stderr)) is not None:
            return failure
        if not appears(self._result, SEEN_SECONDS):
            return f"the run has ended elsewhere, but {self._result} is not there after {SEEN_SECONDS:.0f} s"
        return None

    def _ended(self) -> Outcome:
        from ray.exceptions import RayError, TaskCancelledError

        if self._outcome is None:
            try:
                self._outcome = self._future.result()
            except TaskCancelledError:
                self._outcome = Outcome(INTERRUPTED, "", self.seconds)
            except RayError as error:  # such as the loss of worker after worker
                reason = f"{type(error).__name__}: {error}"
                self._outcome = Outcome(1, reason, self.seconds)
        return self._outcome


def _join() -> None:
    """Join the cluster of `RAY_ADDRESS`, or start Ray on this machine."""
    import ray

    if ray.is_initialized():
        return
    # Ray's daemons would report their use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get(ADDRESS)
    if not address:
        # Ray would rather look for a cluster on this machine than start one of its own.
        ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
        return
    try:
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot join the Ray cluster of {ADDRESS}={address}: {error}; start it with `ray start --head`, or unset "
            f"{ADDRESS} to use this machine alone"
        ) from error


def _check_devices(device: str, has_gpus: bool) -> None:
    """Refuse a machine whose device is not that of the runs: presets and checks follow the device of this machine."""
    from trainer.devices import resolve_device

    here = resolve_device(device).type
    if has_gpus and here != "cuda":
        raise ValueError(
            f"the Ray cluster has GPUs, and this machine has none that torch can use (device {here}): start the "
            "command on a machine with a GPU, or train on CPUs with --device cpu"
        )
    if not has_gpus and here == "cuda":
        raise ValueError(
            "this machine has a GPU, and the Ray cluster has none: start Ray with --num-gpus, or train on CPUs with "
            "--device cpu"
        )


def run_here(
    name: str, arguments: list[str], text: str, threads: int, directory: Path, needed: list[Path], result: Path
) -> Outcome:
    """Run the process of a run on this machine, which Ray has chosen; interrupt it if the task is cancelled.

    Raises:
        PreemptedError: Another signal has interrupted the process.
    """
    from trainer.records import RunLockedError

    if (problem := blind_spot(needed)) is not None:
        return Outcome(WRONG_INPUT, problem, 0.0)
    os.chdir(directory)
    process: RunProcess | None = None
    with TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True) as compiled:
        try:
            wait_until_unlocked(result.parent)
            variables = {"OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": compiled}
            process = RunProcess(name, arguments, {**os.environ, **variables}, text)
            while not process.has_ended:  # a wait without an end would not be interrupted
                time.sleep(_POLL_SECONDS)
            if was_interrupted(process.wait()):
                raise PreemptedError(f"{name} was interrupted on {socket.gethostname()}: {process.stderr}")
        except RunLockedError as error:
            return Outcome(1, str(error), 0.0)
        except KeyboardInterrupt:
            if process is None:
                return Outcome(INTERRUPTED, "", 0.0)
            process.interrupt()
        return Outcome(process.wait(), process.stderr, process.seconds)


def blind_spot(needed: Sequence[Path]) -> str | None:
    """Return a sentence about the first path that this machine does not see, or None."""
    missing = next((path for path in needed if not path.exists()), None)
    if missing is None:
        return None
    seen = missing.parent if missing.name.startswith(".shared-") else missing
    return (
        f"the machine {socket.gethostname()} of the Ray cluster does not see {seen} as this one does: choose --out and "
        "--data-dir in a folder that all machines share under the same path"
    )


def wait_until_unlocked(run_dir: Path, seconds: float = LOCK_SECONDS) -> None:
    """Wait until nobody uses a run directory: the file server may still keep the lock of a lost worker.

    Raises:
        trainer.records.RunLockedError: It is still in use after so many seconds.
    """
    from trainer.records import RunDirectory, RunLockedError

    if not (run_dir / ".lock").exists():
        return
    directory, last = RunDirectory(run_dir), time.monotonic() + seconds
    while True:
        try:
            directory.acquire()
        except RunLockedError:
            if time.monotonic() > last:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            directory.release()
            return


def appears(path: Path, seconds: float) -> bool:
    """Wait for a file that another machine has written."""
    last = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > last:
            return False
        with suppress(OSError):
            os.listdir(path.parent)  # noqa: PTH208 (asks the server, where a file system remembers what is missing)
        time.sleep(_POLL_SECONDS)
    return True
