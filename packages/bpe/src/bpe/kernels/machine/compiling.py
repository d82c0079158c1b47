"""How every kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, wraps
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core import config

COMPILED = not getattr(config, "DISABLE_JIT", 0)
"""Whether kernels are machine code; with NUMBA_DISABLE_JIT=1 they are run by the interpreter."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` without the interpreter lock and keep the machine code on disk where that is possible."""
    if not COMPILED:  # numbers of 64 bits overflow, as they should, without a warning
        return wraps(function)(np.errstate(over="ignore")(function))
    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder for the cache can be written to: compile in every process
        return njit(nogil=True)(function)
    _renew_cache_with_any_kernel(dispatcher)
    _forgive_the_cache(dispatcher)
    return dispatcher


def _renew_cache_with_any_kernel(dispatcher: Any) -> None:
    """Make the cached machine code stale whenever any kernel file changes.

    Numba looks only at the file of the function itself, although code of other files is compiled into it.
    """
    cache_file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None and hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = (cache_file._source_stamp, _kernels_digest())


def _forgive_the_cache(dispatcher: Any) -> None:
    """Compile again where a cached file is damaged, and go on without the cache where the disk is full.

    Numba writes a file of the cache and renames it, so that a loss of power can leave an empty one, and passes every
    error of reading and writing on to the caller.
    """
    cache: Any = getattr(dispatcher, "_cache", None)
    if not hasattr(cache, "load_overload") or not hasattr(cache, "save_overload"):
        return
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:
            return None

    def save_overload(*arguments: Any) -> None:
        try:
            save(*arguments)
        except Exception:
            with suppress(OSError):
                cache.flush()  # a damaged index would be read again before every later save

    cache.load_overload, cache.save_overload = load_overload, save_overload


@lru_cache(maxsize=1)
def _kernels_digest() -> str:
    """Return a digest of the source of all kernels."""
    digest = sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
