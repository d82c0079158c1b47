"""The C and C++ compilers of this machine, which Triton and torch.compile call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

_ANSWER_SECONDS = 120.0


def check_compilers(device_type: str, *, compiles: bool, without: str) -> None:
    """Check that the compilers of a run exist and can build a module for this Python.

    Triton compiles the launchers of its kernels with a C compiler, with or without torch.compile. torch.compile needs a
    C++ compiler: for the CPU's kernels, and for scalars that an update on CUDA computes on the CPU.

    Args:
        device_type: "cuda", "mps" or "cpu".
        compiles: Whether the run uses torch.compile.
        without: The flag that turns torch.compile off, for the message.

    Raises:
        ValueError: If a compiler is missing or fails; the message names the one that was looked for, and remedies.
    """
    # On Windows, builds of Triton bring a compiler of their own.
    if device_type == "cuda" and sys.platform != "win32" and find_spec("triton") is not None:
        names = (os.environ["CC"],) if os.environ.get("CC") else ("gcc", "clang")  # as triton.runtime.build
        problem = _problem(names, "c", "#include <Python.h>\n")
        if problem is not None:
            raise ValueError(
                f"CUDA kernels need a C compiler, but {problem}: install one (apt install gcc python3-dev), name one "
                "in the variable CC, or train on the CPU with --device cpu"
            )
    if compiles:
        # As torch._inductor.config.cpp.cxx; on Windows torch looks for cl.
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        problem = _problem((os.environ.get("CXX") or usual,), "c++", "#include <Python.h>\n#include <vector>\n")
        if problem is not None:
            raise ValueError(
                f"torch.compile needs a C++ compiler, but {problem}: install one (apt install g++ python3-dev), name "
                f"one in the variable CXX, or train without torch.compile ({without})"
            )


def _problem(names: tuple[str, ...], language: str, source: str) -> str | None:
    """Build a module with the first of the compilers that exists; return the reason if that fails."""
    compiler = next((found for name in names if (found := shutil.which(name)) is not None), None)
    if compiler is None:
        return f"there is no {' and no '.join(names)} in PATH ({os.environ.get('PATH', '')})"
    if sys.platform == "win32":  # whose compilers have other options
        return None
    scheme = sysconfig.get_default_scheme()
    # Debian's Python names its headers by another scheme than the one in which it installs.
    headers = sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme)
    with tempfile.TemporaryDirectory() as directory:
        command = [compiler, "-x", language, "-shared", "-fPIC", f"-I{headers}", "-", "-o", str(Path(directory, "out"))]
        try:
            done = subprocess.run(
                command, input=source, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{compiler} does not run ({error})"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    said = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
    return f"{compiler} fails ({said.strip()})"
