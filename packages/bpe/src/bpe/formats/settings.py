"""Reading the settings in files of other libraries: what is not supported is refused by its name."""

from __future__ import annotations

from typing import Any

_LONGEST_VALUE = 120


def unsupported(source: str, name: str, value: object, expected: str = "none") -> ValueError:
    """Return the error for a setting with a value that is not supported."""
    shown = repr(value)
    if len(shown) > _LONGEST_VALUE:
        shown = f"{shown[:_LONGEST_VALUE]}..."
    return ValueError(f"{source} has {name} = {shown}, expected {expected}: it is not supported; use its own library")


def refuse(source: str, name: str, value: object) -> None:
    """Refuse a setting that has any value but nothing.

    Raises:
        ValueError: If it is there and neither false, empty nor zero.
    """
    if value:
        raise unsupported(source, name, value)


def object_of(source: str, name: str, value: object) -> dict[str, Any]:
    """Return a setting that is a JSON object.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, dict):
        raise unsupported(source, name, value, "a JSON object")
    return value


def list_of(source: str, name: str, value: object) -> list[Any]:
    """Return a setting that is a JSON array.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, list):
        raise unsupported(source, name, value, "a JSON array")
    return value
