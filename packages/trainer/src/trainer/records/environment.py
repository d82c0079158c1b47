"""Where a run was made: code, versions, machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from trainer.devices.devices import device_name
from trainer.records.version import __version__

_LARGEST_DIFF = 1_000_000  # characters
_GIT_SECONDS = 20


def describe_environment(device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """Return plain values for `environment.json`."""
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
    """Return the commit of the current directory, whether files differ from it, and how; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git("status", "--porcelain") or ""
    diff = _git("diff", "HEAD") or ""
    if len(diff) > _LARGEST_DIFF:
        diff = f"{diff[:_LARGEST_DIFF]}\n(cut: {len(diff)} characters in all)\n"
    return {"commit": commit.strip(), "dirty": bool(status.strip()), "status": status, "diff": diff}


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
