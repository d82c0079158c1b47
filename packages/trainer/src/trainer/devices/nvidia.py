"""NVIDIA GPUs that this machine has and torch cannot use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

DEVICE_FILES = Path("/dev")
"""Folder of the files nvidia0, nvidia1, …, one per GPU, on Linux."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""The driver's version, on Linux."""
_HIDDEN = ("", "-1")  # values of CUDA_VISIBLE_DEVICES
# Oldest driver for each major version of CUDA (NVIDIA, CUDA Toolkit Release Notes, "CUDA Toolkit and Minimum Required
# Driver Version for CUDA Minor Version Compatibility").
_OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}
_ANSWER_SECONDS = 20.0


def unusable_gpu() -> str | None:
    """Describe the NVIDIA GPU that torch cannot use: the evidence for it, the reason, and a remedy.

    Returns:
        One line; None if there is no such GPU, or CUDA_VISIBLE_DEVICES hides all of them ("" or -1).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if (visible is not None and visible.strip() in _HIDDEN) or torch.cuda.is_available():
        return None
    listed, driver = _ask_nvidia_smi()
    found = [*(str(path) for path in sorted(DEVICE_FILES.glob("nvidia[0-9]*"))), *listed]
    if not found:
        return None
    driver = driver or _driver_of_the_kernel()
    found.append(f"driver {driver}" if driver else "a driver of unknown version")
    if visible is not None:
        found.append(f"CUDA_VISIBLE_DEVICES={visible}")
    return f"found {', '.join(found)}, and {_reason()}: {_remedy(driver)}"


def driver_version() -> str:
    """Return the version of the NVIDIA driver, such as "535.104.05"; "" if it is unknown or there is none."""
    return _ask_nvidia_smi()[1] or _driver_of_the_kernel()


def _ask_nvidia_smi() -> tuple[list[str], str]:
    """Return the GPUs that nvidia-smi lists, or its complaint, and the version of the driver ("" if unknown)."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], ""
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{program} without an answer ({error})"], ""
    answer = (done.stdout + done.stderr).strip()
    if not answer or answer.startswith("No devices"):
        return [], ""
    lines = answer.splitlines()
    if done.returncode:
        return [f"{program} with the answer {lines[0]!r}"], ""
    rows = [line.rpartition(",") for line in lines]
    return [name.strip() for name, _, _ in rows], rows[0][2].strip()


def _driver_of_the_kernel() -> str:
    """Return the version of the loaded driver, such as "535.104.05"; "" if it is unknown."""
    try:
        match = re.search(r"Module.*?\s(\d+\.[\d.]+)\s", DRIVER_FILE.read_text("utf-8"))
    except OSError:
        return ""
    return match[1] if match else ""


def _reason() -> str:
    """Return the version of torch, and the reason that it gives for having no CUDA device."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA (torch.version.cuda is None)"
    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        sentence = str(error).partition("\n")[0].partition(". ")[0]
        return f"{built}, but cannot begin to use it ({sentence})"
    return f"{built}, but sees no device"


def _remedy(driver: str) -> str:
    """Return advice for a driver and the CUDA version of torch, of which a newer one needs a newer driver."""
    major = int(driver.partition(".")[0]) if driver.partition(".")[0].isdigit() else None
    built = int(torch.version.cuda.partition(".")[0]) if torch.version.cuda else None
    runs = [cuda for cuda, oldest in _OLDEST_DRIVERS.items() if major is not None and major >= oldest]
    install = f"install a build of torch for CUDA {max(runs)}" if runs else "install a build of torch with CUDA"
    where = "(https://pytorch.org/get-started/locally)"
    if built is None:
        return f"{install} {where}"
    oldest = _OLDEST_DRIVERS.get(built)
    if major is not None and oldest is not None and major < oldest:
        older = f", or {install} {where}" if runs else ""
        return f"CUDA {built} needs driver {oldest} or newer, so update the driver{older}"
    return "make nvidia-smi work first; a container has to be started with its GPUs, such as docker run --gpus all"
