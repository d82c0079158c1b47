"""Ordered work on a thread pool with a bounded number of pending items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_threads(threads: int | None) -> int:
    """Return the number of threads to use; None means one for each core that this process may run on.

    Raises:
        ValueError: If `threads` is not an integer of at least 1.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}, expected a whole number of at least 1, or None for all cores")
    return threads


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, *, kernels: bool = True
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; at most two items per thread are pending at a time.

    A function that calls kernels spends its time without the interpreter lock. Even with `threads` 1 it runs in another
    thread: Ctrl-C then cannot arrive inside Numba, which may not survive it. Functions in pure Python (`kernels` False)
    run in this thread if `threads` is 1.
    """
    if threads == 1 and not kernels:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="bpe")
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
