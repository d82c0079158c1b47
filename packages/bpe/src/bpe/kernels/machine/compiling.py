"""Compilation of kernels, and the disk cache of their machine code."""

from __future__ import annotations

import warnings
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
"""True if kernels are machine code; with NUMBA_DISABLE_JIT=1 the interpreter runs them."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` to run without the interpreter lock, and cache the machine code on disk where possible."""
    if not COMPILED:  # 64-bit numbers overflow on purpose, so NumPy's warning is switched off
        return wraps(function)(np.errstate(over="ignore")(function))
    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no cache folder is writable: compile in every process
        return njit(nogil=True)(function)
    if not _tie_cache_to_all_kernels(dispatcher):
        warnings.warn(
            "the cache of this version of Numba cannot be tied to the source of all kernels, so every process compiles "
            "them again; use a version that scratchlm-bpe was tested with",
            RuntimeWarning,
            stacklevel=2,
        )
        return njit(nogil=True)(function)
    _tolerate_damage(dispatcher)
    return dispatcher


def _tie_cache_to_all_kernels(dispatcher: Any) -> bool:
    """Make cached machine code stale whenever any kernel file changes; return False if that is impossible.

    Numba looks for changes only in the file of the function itself, although code of other files is compiled into it.
    The source stamp, a private field of Numba, is therefore extended by a digest of all kernels. A version of Numba
    without this field must not use the cache: stale code would run.
    """
    cache_file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if not hasattr(cache_file, "_source_stamp"):
        return False
    cache_file._source_stamp = (cache_file._source_stamp, kernels_digest())
    return True


def _tolerate_damage(dispatcher: Any) -> None:
    """Compile again if a cached file is damaged, and continue without the cache if the disk is full.

    Numba writes a cache file and renames it, so a power failure can leave an empty file. Numba itself passes every
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
def kernels_digest() -> str:
    """Return the SHA-256 of the source of all kernels and of the constants compiled into them."""
    folder = Path(__file__).parents[1]
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
