"""Running work on a thread pool in order, with a bounded number of items under way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_threads(threads: int | None) -> int:
    """Return the number of threads to use; None is one for each core this process may run on.

    Raises:
        ValueError: If it is not a whole number of at least 1.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}, expected a whole number of at least 1, or None for all cores")
    return threads


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, *, kernels: bool = True
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; at most two items per thread are held at a time.

    A function that calls kernels must release the interpreter lock where it works, as they do. It is not called by
    this thread even if `threads` is 1: only so can Ctrl-C not arrive within Numba, which may not survive it.
    """
    if threads == 1 and not kernels:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="bpe")
    try:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
