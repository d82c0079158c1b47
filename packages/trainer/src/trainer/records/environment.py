"""Environment of a run: code, versions and machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LARGEST_DIFF = 1_000_000  # characters
_GIT_SECONDS = 20


def describe_environment(device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """Return plain values for `environment.json`."""
    import numpy as np
    import torch

    from trainer.devices import device_name

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": describe_git(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "trainer": __version__,
        "platform": platform.platform(),
        "device": str(device),
        "device_name": device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "seed": seed,
    }


def describe_git() -> dict[str, Any] | None:
    """Return the commit of the current directory, and differences from it; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git("status", "--porcelain") or ""
    diff = _git("diff", "HEAD") or ""
    if len(diff) > _LARGEST_DIFF:
        diff = f"{diff[:_LARGEST_DIFF]}\n(cut: {len(diff)} characters in all)\n"
    return {"commit": commit.strip(), "dirty": bool(status.strip()), "status": status, "diff": diff}


def _installed_version() -> str:
    try:
        return version("scratchlm-trainer")
    except PackageNotFoundError:  # imported from a source folder
        return "0+source"


__version__ = _installed_version()


def _git(*arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--no-optional-locks", *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
