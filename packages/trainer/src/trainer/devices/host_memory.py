"""Settings of glibc that reuse freed tensor memory instead of returning it to the operating system."""

import ctypes
import os
from collections.abc import Callable
from typing import Any

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = -1
_LARGEST_KEPT = (2**30, 2**25)
"""Bytes; larger blocks go back to the system when they are freed. Some versions of glibc refuse more than 32 MiB."""


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of freed tensors for later ones, in the whole process, from now on.

    A training step on a CPU frees and allocates the same hundreds of megabytes again and again. By default glibc
    returns most of them to the system, which then has to clear each page anew: with a small language model of torch.nn
    that is a third of a step's time. The process may hold more memory at once (`benchmarks/kept_memory.py`).

    Returns:
        True if freed memory is kept now. It is not with other C libraries (macOS, Windows, musl), nor where the
        environment configures the allocator (`MALLOC_…`, `GLIBC_TUNABLES`); its settings are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    is_set = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER)) and is_set


def release_freed_memory() -> None:
    """Return kept memory that is not in use to the system, where the C library can."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., Any] | None:
    """Return a function of glibc, or None with another C library."""
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version
        function: Callable[..., Any] = getattr(library, name)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows requires a name
        return None
    return function
