"""Digests of a user's functions, which show that one was edited between two sessions of a run."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def describe_function(function: object) -> dict[str, str] | None:
    """Return plain values that change when a function is edited, or None if they cannot be known.

    The digest covers the function's code, the functions within it, its defaults, and the plain values (numbers and
    strings) that it takes from around it. Comments, names of variables and other functions that it calls do not count.
    """
    parts = b"\n".join(repr(part).encode("utf-8", "backslashreplace") for part in _parts(function))
    if not parts:
        return None
    version = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"  # which make other code
    return {"python": version, "sha256": hashlib.sha256(parts).hexdigest()}


def _parts(function: Any) -> Iterator[object]:
    if isinstance(function, partial):
        yield from _parts(function.func)
        yield from _plain([*function.args, *sorted(function.keywords.items())])
    elif isinstance(function, MethodType):
        yield from _parts(function.__func__)
        yield from _attributes(function.__self__)
    elif isinstance(function, FunctionType):
        yield from _code_parts(function.__code__)
        yield from _plain([*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())])
        cells = function.__closure__ or ()
        yield from _plain([cell.cell_contents for cell in cells if _is_filled(cell)])
        yield from _plain([function.__globals__.get(name) for name in function.__code__.co_names])
    elif isinstance(call := getattr(type(function), "__call__", None), FunctionType):  # noqa: B004 - of the class
        yield from _parts(call)
        yield from _attributes(function)


def _attributes(value: object) -> Iterator[object]:
    """Yield the plain attributes of an object by name."""
    attributes = sorted(getattr(value, "__dict__", {}).items())
    yield from _plain([(name, value) for name, value in attributes if isinstance(value, _PLAIN)])


def _code_parts(code: CodeType) -> Iterator[object]:
    yield code.co_code, code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:
            yield constant


def _plain(values: list[Any]) -> Iterator[object]:
    """Yield values that stay the same while a function is used, and whose text is the same in every process."""
    for value in values:
        if isinstance(value, _PLAIN):
            yield value
        elif isinstance(value, tuple):
            yield from _plain(list(value))


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if it is empty
    except ValueError:
        return False
    return True
