"""Digests of a user's functions, which show that one was edited between two sessions of a run."""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LIBRARIES = ("torch", "numpy", "functools", "contextlib")
_MAX_NUMBERS = 4096


def describe_function(function: object) -> dict[str, str] | None:
    """Return plain values that change when a function is edited, or None if they cannot be known.

    The digest covers the function's code, the functions within it, those that it wraps and those of its own module or
    class that it calls, its defaults, and the numbers, strings and small tensors that it takes from around it.
    Comments, names of variables and functions of other modules do not count. Neither do lists and dicts around it,
    which often collect values.
    """
    parts = b"\n".join(repr(part).encode("utf-8", "backslashreplace") for part in _parts(function, set()))
    if not parts:
        return None
    version = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"  # which make other code
    return {"python": version, "sha256": hashlib.sha256(parts).hexdigest()}


def _parts(function: Any, seen: set[int]) -> Iterator[object]:
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, partial):
        yield from _parts(function.func, seen)
        for value in (*function.args, *sorted(function.keywords.items())):
            yield from _given(value, seen)
    elif isinstance(function, MethodType):
        yield from _parts(function.__func__, seen)
        yield from _object_parts(function.__self__, seen)
    elif isinstance(function, FunctionType):
        yield from _function_parts(function, seen)
    elif (wrapped := getattr(function, "__wrapped__", None)) is not None:
        yield from _parts(wrapped, seen)
    elif not isinstance(function, type) and callable(function) and type(function).__module__ != "builtins":
        yield from _object_parts(function, seen)


def _function_parts(function: FunctionType, seen: set[int]) -> Iterator[object]:
    compiled = getattr(function, "_torchdynamo_orig_callable", None)
    if compiled is not None:
        yield from _parts(compiled, seen)
        return
    if _is_library(function):  # whose code depends on its version
        yield f"{function.__module__}.{function.__qualname__}"
        yield from _parts(getattr(function, "__wrapped__", None), seen)
        return
    names: list[str] = []
    yield from _code_parts(function.__code__, names)
    for value in (*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())):
        yield from _around(value, seen)
    for cell in function.__closure__ or ():
        if _is_filled(cell):
            yield from _around(cell.cell_contents, seen)
    for name in names:
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__globals__ is function.__globals__:
            yield from _around(value, seen)


def _object_parts(value: Any, seen: set[int]) -> Iterator[object]:
    """Yield the methods and plain attributes of an object and of its class."""
    kind = value if isinstance(value, type) else type(value)
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _LIBRARIES or base is object:
            continue
        for name, item in sorted(vars(base).items()):
            method = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
            if isinstance(method, FunctionType):
                yield from _parts(method, seen)
            elif isinstance(item, _PLAIN) and name not in ("__module__", "__doc__", "__firstlineno__"):
                yield name, item
    if isinstance(value, type):
        return
    for part in value.modules() if isinstance(value, nn.Module) else [value]:
        yield type(part).__qualname__
        attributes = sorted(getattr(part, "__dict__", {}).items())
        yield from ((name, item) for name, item in attributes if isinstance(item, _PLAIN) and name != "training")


def _code_parts(code: CodeType, names: list[str]) -> Iterator[object]:
    """Yield what a code consists of, and append the names that it takes from its module."""
    yield code.co_code, code.co_names
    names += dict.fromkeys(
        step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant, names)
        else:
            yield _ordered(constant)


def _ordered(constant: object) -> object:
    """Return a constant whose text is the same in every process, which that of a frozenset is not."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def _around(value: Any, seen: set[int]) -> Iterator[object]:
    """Yield what stays the same while a function is used, and whose text is the same in every process."""
    if isinstance(value, np.generic):
        yield value.item()
    elif isinstance(value, _PLAIN):
        yield value
    elif isinstance(value, torch.Tensor | np.ndarray):
        yield from _numbers(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _around(item, seen)
    elif isinstance(value, partial | MethodType | FunctionType) or hasattr(value, "__wrapped__"):
        yield from _parts(value, seen)


def _given(value: Any, seen: set[int]) -> Iterator[object]:
    """Yield the same for an argument, in which dicts and lists are settings."""
    if isinstance(value, dict):
        value = sorted(value.items(), key=repr)
    items: Iterable[Any] = value if isinstance(value, list | tuple) else ()
    for item in items:
        yield from _given(item, seen)
    if not isinstance(value, list | tuple):
        yield from _around(value, seen)


def _numbers(value: torch.Tensor | np.ndarray[Any, Any]) -> Iterator[object]:
    """Yield the numbers of a small array, such as weights of classes, that is no parameter."""
    if isinstance(value, torch.Tensor):
        is_plain = type(value) is torch.Tensor and value.layout is torch.strided and not value.is_meta
        if is_plain and not value.requires_grad and value.numel() <= _MAX_NUMBERS:
            yield value.tolist()
    elif value.dtype.kind in "biuf" and value.size <= _MAX_NUMBERS:
        yield value.tolist()


def _is_library(function: FunctionType) -> bool:
    return str(function.__globals__.get("__name__", "")).partition(".")[0] in _LIBRARIES


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if it is empty
    except ValueError:
        return False
    return True
