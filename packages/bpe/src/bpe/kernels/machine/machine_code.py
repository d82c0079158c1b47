"""Machine code of the kernels that was compiled when the package was built: which file suits, and mapping it.

A file begins with a header of one page, JSON, and continues with the image: code and constants that refer to each other
by distance only and to nothing else, so that the file runs wherever it is mapped. Nothing is linked at run time.
"""

from __future__ import annotations

import json
import mmap
import platform
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int64, c_void_p
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "compiled"
"""Folder of the files, one for each target."""

HEADER_BYTES = 4096
"""Size of the header. The image refers to whole pages of 4,096 bytes on aarch64."""

_X86_V2 = {"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}
_X86_V3 = _X86_V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_X86_V4 = _X86_V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
TARGETS = {
    "x86-64-v4": ("x86_64", _X86_V4),
    "x86-64-v3": ("x86_64", _X86_V3),
    "x86-64-v2": ("x86_64", _X86_V2),
    "aarch64": ("aarch64", set[str]()),
}
"""Targets, the best first: the architecture, and the features that Linux must list for the processor."""


class MachineCode:
    """The functions of a file, mapped into this process.

    Raises:
        OSError: If the file cannot be read, or the system does not allow its code to be run.
        ValueError: If the file is damaged or was made from other kernels.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np

        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
        content = memoryview(self._map)
        self._offsets = checked_header(path, content)["functions"]
        self._address = np.frombuffer(content, dtype=np.uint8).__array_interface__["data"][0]

    def function(self, name: str) -> Callable[[Any], int]:
        """Return an entry point: a function of the address of its arguments, called without the interpreter lock."""
        return CFUNCTYPE(c_int64, c_void_p)(self._address + self._offsets[name])


def checked_header(path: Path, content: memoryview | bytes) -> dict[str, Any]:
    """Return the header of a compiled file with this content.

    Raises:
        ValueError: If the file is damaged or was made from other kernels.
    """
    try:
        header: dict[str, Any] = json.loads(bytes(content[:HEADER_BYTES]))
        kernels, digest = header["kernels"], header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged") from error
    if sha256(content[HEADER_BYTES:]).hexdigest() != digest:
        raise ValueError(f"{str(path)!r} is damaged")
    if kernels != kernels_digest():
        raise ValueError(f"{str(path)!r} was made from other kernels than those beside it")
    return header


@lru_cache(maxsize=1)
def kernels_digest() -> str:
    """Return the SHA-256 of the source of all kernels and of the constants compiled into them."""
    return source_digest(Path(__file__).parents[1])


def source_digest(folder: Path) -> str:
    """Return the SHA-256 of the Python files of a folder."""
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Loaded(NamedTuple):
    """The machine code for this process, or the reason why there is none."""

    code: MachineCode | None
    reason: str = ""


def load_machine_code(path: str = "") -> Loaded:
    """Map a file, or the best one for this processor."""
    targets = runnable_targets()
    if not targets:
        return Loaded(None, f"there is none for {platform.system()} on {platform.machine()}")
    try:
        return Loaded(MachineCode(Path(path) if path else FOLDER / f"{targets[0]}.bin"))
    except (OSError, ValueError) as error:
        return Loaded(None, str(error))


def runnable_targets() -> list[str]:
    """Return the targets that this system can run, the best first."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return []
    machine = platform.machine()
    features = _linux_features() if machine == "x86_64" else set()
    return [name for name, (architecture, needed) in TARGETS.items() if architecture == machine and needed <= features]


def _linux_features() -> set[str]:
    """Return the features that Linux lists for the first processor; it leaves out those it has not switched on."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            return next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return set()
