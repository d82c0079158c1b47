"""Checks of arguments."""

from __future__ import annotations

from operator import index
from os import PathLike
from pathlib import Path
from typing import Any


def folder_of(directory: str | PathLike[str]) -> Path:
    """Return the path of a folder; refuse an empty string, which would mean the current folder."""
    if directory == "":
        raise ValueError("directory is an empty string, expected a folder; is a variable unset?")
    return Path(directory)


def whole_number(value: Any) -> int | None:
    """Return an integer of any type, such as NumPy's, as an int; None for a bool and everything else."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None
