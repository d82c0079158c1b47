"""What tokenizers are measured on: processor, versions, date, and how busy the machine is."""

import os
from datetime import UTC, datetime
from typing import Any


def processor() -> str:
    """The processor's model name."""
    import torch

    from trainer.devices.devices import device_name

    return device_name(torch.device("cpu"))


def cores() -> int:
    """The cores that this process may use: so many threads bpe takes."""
    from bpe.threads import check_threads

    return check_threads(None)


def load_average() -> float | None:
    """How many processes wanted a core in the last minute, on average; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # not on Windows
        return None


def describe_machine() -> dict[str, Any]:
    """Plain values that say when, where and with which versions something is measured."""
    import platform
    import sys
    from importlib.metadata import version

    import bpe
    from trainer.records.environment import describe_git

    git = describe_git()
    return {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": git and git["commit"],
        "uncommitted_changes": git and git["dirty"],
        "processor": processor(),
        "cores": cores(),
        "load_average": load_average(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "bpe": bpe.__version__,
        "numpy": version("numpy"),
        "numba": version("numba"),
    }
