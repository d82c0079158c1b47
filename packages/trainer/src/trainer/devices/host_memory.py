"""How the process keeps memory that tensors on a CPU free."""

import ctypes
import os

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = -1
_LARGEST_KEPT = 2**30  # bytes; what is larger goes back to the system as soon as it is freed


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of freed tensors for the next ones; of the whole process, from now on.

    A training step on a CPU frees and takes the same hundreds of megabytes again and again. By its defaults glibc gives
    most of them back to the system, which then has to clear each page anew: with a small language model of torch.nn
    that is a third of a step's time. The process may have more memory at once (`benchmarks/kept_memory.py`).

    Returns:
        Whether it is so now. It is not with other C libraries (macOS, Windows, musl), nor where the environment has
        settings of the allocator (`MALLOC_…`, `GLIBC_TUNABLES`), which are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _NEVER))


def release_freed_memory() -> None:
    """Give what is kept and not in use back to the system, where the C library can."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    """A function of glibc; None with another C library."""
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version
        function: ctypes._NamedFuncPointer = getattr(library, name)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows wants a name
        return None
    return function
