"""Checks of arguments."""

from __future__ import annotations

from operator import index
from typing import Any


def whole_number(value: Any) -> int | None:
    """Return an integer of any type, such as NumPy's, as an int; None for a bool and everything else."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None
