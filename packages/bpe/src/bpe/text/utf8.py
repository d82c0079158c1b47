"""Conversion of strings to UTF-8, and replacement of malformed UTF-8."""

from __future__ import annotations

import sys
import warnings
from os import PathLike

from bpe.errors import InvalidUTF8Warning

StrPath = str | PathLike[str]

_WORTH_VIEWING = 1 << 16
_REPLACEMENT = "\ufffd".encode()


def utf8(text: str) -> bytes:
    """Encode a string as UTF-8; surrogate pairs are joined, and lone surrogates become U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")
    except AttributeError:
        raise TypeError(f"text is a {type(text).__name__}, expected a str; decode bytes first") from None


def utf8_view(text: str | bytes) -> bytes | memoryview:
    """Encode a string as UTF-8, a long one without a copy; the view is valid only while the string exists.

    CPython caches the UTF-8 form of a str; this function returns a view of that cache. Bytes are returned as they are.
    """
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str) or len(text) < _WORTH_VIEWING or sys.implementation.name != "cpython":
        return utf8(text)
    import ctypes

    size = ctypes.c_ssize_t()
    function = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
    function.restype = ctypes.c_void_p
    try:
        pointer = function(ctypes.py_object(text), ctypes.byref(size))
    except UnicodeEncodeError:
        return utf8(text)
    return memoryview((ctypes.c_char * size.value).from_address(pointer)).cast("B")


def replace_malformed(data: bytes) -> tuple[bytes, int]:
    """Replace malformed UTF-8 by U+FFFD; return the result and the number of replacements."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        replaced = data.decode("utf-8", "replace").encode("utf-8")
        # 0xEF never continues a character, so every U+FFFD of `data` is still in the result.
        return replaced, replaced.count(_REPLACEMENT) - data.count(_REPLACEMENT)
    return data, 0


def warn_of_replacements(count: int, source: str, *, stacklevel: int) -> None:
    """Issue the warning that `count` malformed sequences in a text were replaced by U+FFFD, if there were any."""
    if count:
        sequences = "sequence" if count == 1 else "sequences"
        message = f"{count:,} malformed UTF-8 {sequences} in {source} replaced by U+FFFD"
        warnings.warn(message, InvalidUTF8Warning, stacklevel=stacklevel + 1)
