"""Text as UTF-8, and the files it comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

StrPath = str | PathLike[str]

TEXT_SUFFIXES = (".txt", ".gz", ".zst")
_BESIDE_MERGES = ("vocab.json", "tokenizer.json")
_WORTH_VIEWING = 1 << 16
_REPLACEMENT = "\ufffd".encode()


def utf8(text: str) -> bytes:
    """Return the UTF-8 of a string; surrogate pairs are joined and lone surrogates become U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")
    except AttributeError:
        raise TypeError(f"text is a {type(text).__name__}, expected a str; decode bytes first") from None


def utf8_view(text: str) -> bytes | memoryview:
    """Return the UTF-8 of a string, of a long one without a copy; it is only there as long as the string is.

    CPython keeps the UTF-8 of a string that is not ASCII with it, as every extension module has it do.
    """
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


def find_files(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return the files that `paths` name: files as they are, folders searched for .txt, .gz and .zst in sorted order.

    Of a tokenizer that lies in a folder, merges.txt is not taken for text.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no path, or a folder has no text file.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | PathLike) else paths:
        path = Path(path)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if _is_text(file))
            if not found:
                raise ValueError(f"folder {str(path)!r} has no file ending in {', '.join(TEXT_SUFFIXES)}; name a file")
            files.extend(found)
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if not files:
        raise ValueError("paths is empty, expected at least one file or folder; name one")
    return files


def _is_text(path: Path) -> bool:
    """Say whether a path in a folder is a text file, by its name and what lies beside it."""
    if path.suffix not in TEXT_SUFFIXES or not path.is_file():
        return False
    return path.name != "merges.txt" or not any(path.with_name(name).is_file() for name in _BESIDE_MERGES)


def replace_malformed(data: bytes) -> tuple[bytes, int]:
    """Return `data` with malformed UTF-8 replaced by U+FFFD, and the number of U+FFFD put in."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        replaced = data.decode("utf-8", "replace").encode("utf-8")
        # 0xEF never continues a character, so every U+FFFD that was there is still one.
        return replaced, replaced.count(_REPLACEMENT) - data.count(_REPLACEMENT)
    return data, 0
