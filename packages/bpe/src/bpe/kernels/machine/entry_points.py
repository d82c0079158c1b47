"""Calls of ready machine code: arguments flattened to an array of 64-bit words.

A whole number is one word. An array is its address and its shape. A named tuple of whole numbers is its fields. Any
other named tuple is the address of its fields, flattened in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ctypes import addressof, c_char, c_int64
from typing import Any, NamedTuple, get_type_hints

FAILED = -(1 << 63)
"""Result of a kernel that ended with an exception."""


class ArrayType(NamedTuple):
    """The dtype and the number of dimensions of an array."""

    dtype: str
    dimensions: int = 1


def argument_types(function: Callable[..., Any]) -> list[Any]:
    """Return the type of each argument of a kernel, or of each field of a named tuple, by its annotations.

    The type of an array is an `ArrayType`, that of a whole number `int`, that of a named tuple its class.
    """
    hints = get_type_hints(function, include_extras=True)
    return [
        ArrayType(*hint.__metadata__) if hasattr(hint, "__metadata__") else hint
        for name, hint in hints.items()
        if name != "return"
    ]


def is_numbers(kind: Any) -> bool:
    """Return whether a type is a named tuple of whole numbers."""
    return kind is not int and all(field is int for field in argument_types(kind))


class Structure:
    """A named tuple, flattened once for many calls."""

    def __init__(self, value: Any) -> None:
        self._value = value  # keeps the arrays alive
        words = _flattened(value, argument_types(type(value)))
        self._words = (c_int64 * len(words))(*words)
        self.address = addressof(self._words)


def _flattened(values: Iterable[Any], types: Iterable[Any]) -> list[int]:
    """Return the words of arguments or fields."""
    words: list[int] = []
    for value, kind in zip(values, types, strict=True):
        if kind is int:
            words.append(value)
        elif type(kind) is ArrayType:
            if value.dtype != kind.dtype or value.ndim != kind.dimensions or not value.flags.c_contiguous:
                raise TypeError(
                    f"a kernel got an array of {value.dtype} with shape {value.shape}, expected a contiguous one of "
                    f"{kind.dtype} with {kind.dimensions} dimensions"
                )
            words.append(_address(value))
            words += value.shape
        elif isinstance(value, Structure):
            words.append(value.address)
        else:
            words += value
    return words


def _address(array: Any) -> int:
    """Return the address of an array, and 0 for an empty one, in the fastest way: short texts notice it."""
    if array.size == 0:
        return 0
    if array.flags.writeable:
        return addressof(c_char.from_buffer(array))
    address: int = array.__array_interface__["data"][0]
    return address


class EntryPoint:
    """A kernel that is called in ready machine code, without the interpreter lock."""

    def __init__(self, function: Callable[..., Any], machine_code: Any) -> None:
        self._function = function
        self._machine_code = machine_code
        self._types: list[Any] = []
        self.__name__, self.__doc__ = function.__name__, function.__doc__

    def __call__(self, *arguments: Any) -> int:
        """Call the machine code; named tuples that hold arrays must be `Structure`s.

        Raises:
            TypeError: If an array has another dtype, shape or layout than the kernel was compiled for.
        """
        if not self._types:
            self._call = self._machine_code.function(self.__name__)
            self._types = argument_types(self._function)
        words = _flattened(arguments, self._types)
        result: int = self._call((c_int64 * len(words))(*words))
        if result == FAILED:
            raise RuntimeError(f"kernel {self.__name__} failed")
        return result
