"""Ordered work on a thread pool with a bounded number of pending items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bpe.arguments import whole_number

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_threads(threads: int | None) -> int:
    """Return the number of threads to use; None means one for each core that this process may run on.

    Raises:
        ValueError: If `threads` is not an integer of at least 1.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = whole_number(threads)
    if number is None or number < 1:
        raise ValueError(f"threads is {threads!r}, expected a whole number of at least 1, or None for all cores")
    return number


def call_aside(function: Callable[[], Result]) -> Result:
    """Call a function that calls kernels in another thread, because Ctrl-C must not arrive inside Numba."""
    return next(map_in_order(lambda _: function(), [None], 1))


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
