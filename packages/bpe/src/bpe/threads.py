"""The number of threads, and ordered work on a thread pool with a bounded number of pending items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from bpe import kernels as bpe_kernels
from bpe.arguments import whole_number

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

_QUOTA_FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
"""Quota and period in microseconds: one file in version 2 of cgroups, two in version 1."""


def check_threads(threads: int | None) -> int:
    """Return the number of threads to use.

    None means the environment variable BPE_THREADS or, where it is not set, one thread for each core that this process
    may use according to its affinity, the CPU quotas of its cgroups and, from Python 3.13 on, PYTHON_CPU_COUNT.

    Raises:
        ValueError: If `threads` or BPE_THREADS is not an integer of at least 1.
    """
    if threads is None:
        variable = os.environ.get("BPE_THREADS", "").strip()
        if not variable:
            return _usable_cores()
        if not variable.isdecimal() or int(variable) < 1:
            raise ValueError(
                f"the environment variable BPE_THREADS is {variable!r}, expected a whole number of at least 1; "
                "unset it to use all cores"
            )
        return int(variable)
    number = whole_number(threads)
    if number is None or number < 1:
        raise ValueError(f"threads is {threads!r}, expected a whole number of at least 1, or None for all cores")
    return number


def _usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "process_cpu_count"):  # since Python 3.13
        cores = os.process_cpu_count()
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _cpu_quota() or cores or 1)


@lru_cache(maxsize=1)  # reading the files takes longer than encoding a short text
def _cpu_quota(root: Path = Path("/")) -> int | None:
    """Return the number of cores, rounded up, that the cgroups of this process grant; None if there is no quota.

    Both versions of cgroups are read. A process also has the quotas of the groups above its own. In a container the
    path of its group may only exist outside, and its quota is that of the root.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return None
    mounts = root / "sys/fs/cgroup"
    quotas = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = PurePosixPath(path).parts[1:]
        for mount in (controllers, "cpu") if controllers else ("", "unified"):
            for depth in range(len(names) + 1):
                folder = mounts.joinpath(mount, *names[:depth])
                # "max" of version 2 and "-1" of version 1 mean no quota.
                words = [word for name in _QUOTA_FILES for word in _words(folder / name)]
                if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
                    quotas.append(-(-int(words[0]) // int(words[1])))
    return min(quotas, default=None)


def _words(path: Path) -> list[str]:
    """Return the words of a small file; none if it cannot be read."""
    try:
        return path.read_text("utf-8").split()
    except OSError:
        return []


class _Made:
    """A result that is there already, in the form of a future."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        """Return the result."""
        return self._value


class Workers:
    """A pool of threads. The thread of the caller works where it `works_alone`, and while the interpreter exits."""

    def __init__(self, threads: int) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if works_alone(threads):
            return
        with _exit_tolerated():
            from concurrent.futures import ThreadPoolExecutor  # the import alone fails while the interpreter exits

            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bpe")

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result] | _Made:
        """Start a call, or make it now if no thread can start."""
        if self._pool is not None:
            with _exit_tolerated():
                return self._pool.submit(function, *arguments)
        return _Made(function(*arguments))


@contextmanager
def _exit_tolerated() -> Iterator[None]:
    """Suppress the errors with which Python refuses new threads while the interpreter exits."""
    try:
        yield
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise


def works_alone(threads: int) -> bool:
    """Return whether the thread of the caller makes all calls of kernels.

    Not if Numba runs them: Ctrl-C must not arrive inside Numba, which may not survive it.
    """
    return threads == 1 and bpe_kernels.are_ready()


def call_aside(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function that calls kernels, in another thread unless this one `works_alone`."""
    with Workers(1) as workers:
        return workers.submit(function, *arguments).result()


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, *, kernels: bool = True
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; at most two items per thread are pending at a time.

    A function that calls kernels spends its time without the interpreter lock. With `threads` 1 it runs in this thread
    where `works_alone` allows it, and functions in pure Python (`kernels` False) do, too. While the interpreter exits,
    no other thread can start, and this one works.
    """
    if works_alone(threads) or (threads == 1 and not kernels):
        yield from map(function, items)
        return
    with Workers(threads) as workers:
        pending: deque[Future[Result] | _Made] = deque()
        for item in items:
            pending.append(workers.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
