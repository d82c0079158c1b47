"""The three ways to run kernels, and Numba's compilation with its disk cache.

Normally the kernels are machine code that was compiled when the package was built (`machine_code`), and nothing here
imports Numba. Numba compiles them where there is no machine code for this processor and this source, or if the
environment asks for it: `BPE_KERNELS=numba`, or `NUMBA_BOUNDSCHECK=1` to check every index. With `NUMBA_DISABLE_JIT=1`
the interpreter runs them. `BPE_KERNELS` can also name a file of machine code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, wraps
from typing import Any

import numpy as np

from bpe.kernels.machine.entry_points import EntryPoint, Structure
from bpe.kernels.machine.machine_code import kernels_digest, load_machine_code


def _is_set(variable: str) -> bool:
    """Return whether an environment variable of Numba is switched on."""
    return os.environ.get(variable, "0") not in ("", "0")


COMPILED = not _is_set("NUMBA_DISABLE_JIT")
"""True if kernels are machine code; False if the interpreter runs them."""

_WAY = os.environ.get("BPE_KERNELS", "numba" if _is_set("NUMBA_BOUNDSCHECK") else "")
_MACHINE_CODE, _REASON = load_machine_code(_WAY) if COMPILED and _WAY not in ("numba", "build") else (None, "")
if _REASON:
    warnings.warn(
        f"there is no ready machine code for the kernels of bpe ({_REASON}), so Numba compiles them, which takes half "
        "a minute once and half a second later; `python -m bpe.building` makes it, or BPE_KERNELS=numba hides this",
        RuntimeWarning,
        stacklevel=2,
    )

NUMBA = COMPILED and _MACHINE_CODE is None
"""True if Numba compiles the kernels in this process, or reads them from its cache."""


ENTRY_POINTS: dict[str, Callable[..., Any]] = {}
"""The kernels that Python calls, by name."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function part of the machine code of the kernels that call it; only Numba compiles it by itself."""
    if NUMBA:
        return _compiled_by_numba(function)
    # 64-bit numbers overflow on purpose, so NumPy's warning is switched off.
    return wraps(function)(np.errstate(over="ignore")(function))


RARE_KERNELS: set[str] = set()
"""The names of kernels that are not inlined into ready machine code."""


def rare_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel that is rarely called: it stays apart, so that loops that call it keep their registers."""
    RARE_KERNELS.add(function.__name__)
    return kernel(function)


def entry_point(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel that Python calls.

    Its annotations name the dtype of each array (`arrays`), and its result is a whole number, a bool or None. Kernels
    allocate no memory: their callers pass buffers.
    """
    made = kernel(function) if _MACHINE_CODE is None else EntryPoint(function, _MACHINE_CODE)
    ENTRY_POINTS[function.__name__] = made
    return made


def structure(value: Any) -> Any:
    """Return a named tuple in the form in which entry points take it; it keeps the arrays that it has now."""
    return value if _MACHINE_CODE is None else Structure(value)


@lru_cache(maxsize=1)
def _warn_of_no_cache() -> None:
    """Say once that kernels are compiled in every process."""
    warnings.warn(
        "no folder for the cache of Numba is writable, so every process compiles the kernels of bpe, which takes half "
        "a minute; set NUMBA_CACHE_DIR to a folder that is",
        RuntimeWarning,
        stacklevel=3,
    )


def _compiled_by_numba(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` to run without the interpreter lock, and cache the machine code on disk where possible."""
    from numba import njit

    options: dict[str, Any] = {
        "nogil": True,
        "_nrt": False,
    }  # without Numba's runtime, because kernels allocate no memory
    if _WAY == "build":
        return njit(**options)(function)
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:
        _warn_of_no_cache()
        return njit(**options)(function)
    if not _tie_cache_to_all_kernels(dispatcher):
        warnings.warn(
            "the cache of this version of Numba cannot be tied to the source of all kernels, so every process compiles "
            "them again; use a version that scratchlm-bpe was tested with",
            RuntimeWarning,
            stacklevel=2,
        )
        return njit(**options)(function)
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
