"""Files of token ids and what is known about their text."""

from __future__ import annotations

import json
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.windows import TokenArray, id_range, read_windows

_MAGIC = b"\x93NUMPY"
_FORMAT = "scratchlm-tokens"
_OTHER_FILES = {
    b"PK\x03\x04": "an .npz archive or another zip file",
    b"\x80": "a pickle",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}


class TokenDataset:
    """A file of token ids, of which only what is read comes into memory.

    The file is a one-dimensional `.npy` of uint16 or uint32. If a `.json` of the same stem lies beside it, its `bytes`
    (UTF-8 bytes of the text), `vocab_size` and `tokenizer_sha256` are read; without it they are None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such array, it is empty or cut short, or the `.json` contradicts it.
    """

    def __init__(self, npy_path: str | os.PathLike[str]) -> None:
        self.path = Path(npy_path)
        self.tokens: TokenArray = _open_tokens(self.path)
        self.metadata: dict[str, Any] = _read_sidecar(self.path, len(self.tokens))
        self._descriptor: int | None = None
        if hasattr(os, "pread"):  # not on Windows
            self._descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[type[TokenDataset], tuple[Path]]:
        return TokenDataset, (self.path,)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"TokenDataset({str(self.path)!r}: {self.num_tokens:,} tokens, {self.tokens.dtype})"

    @property
    def num_tokens(self) -> int:
        """Token ids in the file."""
        return len(self.tokens)

    @property
    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the text that was encoded."""
        return self.metadata.get("bytes")

    @property
    def vocab_size(self) -> int | None:
        """Vocabulary size of the tokenizer that wrote the file."""
        return self.metadata.get("vocab_size")

    @property
    def tokenizer_sha256(self) -> str | None:
        """Checksum of the tokenizer that wrote the file."""
        return self.metadata.get("tokenizer_sha256")

    @cached_property
    def max_token_id(self) -> int:
        """The largest id in the file, found by reading all of it once."""
        return id_range(self.tokens)[1]

    def read_windows(self, starts: TokenArray, length: int) -> TokenArray:
        """Read windows anywhere in the file.

        Plain reads are several times as fast as a memory map, whose every window costs a page fault, and a file that
        somebody cuts short meanwhile is an error instead of the end of the process.

        Args:
            starts: (windows,) where they begin.
            length: ids in a window.

        Returns:
            (windows, length) int64.

        Raises:
            OSError: the file has become shorter.
        """
        if self._descriptor is None:
            return read_windows(self.tokens, starts, length)
        dtype = self.tokens.dtype
        size, origin = length * dtype.itemsize, self.tokens.offset  # type: ignore[attr-defined]
        parts = [os.pread(self._descriptor, size, origin + dtype.itemsize * start) for start in starts.tolist()]
        if any(len(part) != size for part in parts):
            raise OSError(f"{self.path} was cut short while it was read: restore it and run again")
        return np.frombuffer(b"".join(parts), dtype).reshape(len(parts), length).astype(np.int64)

    def check_ids(self, vocab_size: int) -> None:
        """Check that a model with `vocab_size` embeddings can read every id.

        Raises:
            ValueError: an id is too large.
        """
        if self.max_token_id >= vocab_size:
            raise ValueError(
                f"{self.path} holds the token id {self.max_token_id}: expected ids below the vocabulary size "
                f"{vocab_size}; encode the text with the model's own tokenizer"
            )


def _open_tokens(path: Path) -> TokenArray:
    if not path.is_file():
        raise FileNotFoundError(f"no token file at {path}: expected an .npy file of token ids; encode a text into it")
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        kind = next((f", {kind}" for begin, kind in _OTHER_FILES.items() if magic.startswith(begin)), "")
        raise ValueError(
            f"{path} is not a token file: it begins with {magic!r}{kind}, expected an .npy file; encode it again, or "
            "save the ids with numpy.save"
        )
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "Python objects" in str(error):
            raise ValueError(
                f"{path} holds Python objects: expected uint16 or uint32; save it with ids.astype('uint16')"
            ) from error
        if path.stat().st_size and _is_empty_array(path):
            raise ValueError(f"{path} is empty: it holds no tokens; encode a text that is not empty") from error
        raise ValueError(f"{path} is cut short or damaged ({error}); encode the text again") from error
    if tokens.ndim != 1:
        raise ValueError(f"{path} has the shape {tokens.shape}: expected one dimension; save the ids as one row")
    if tokens.dtype.kind != "u" or tokens.dtype.itemsize not in (2, 4):
        raise ValueError(f"{path} holds {tokens.dtype}: expected uint16 or uint32; save it with ids.astype('uint16')")
    if len(tokens) == 0:
        raise ValueError(f"{path} is empty: it holds no tokens; encode a text that is not empty")
    return tokens


def _is_empty_array(path: Path) -> bool:
    """Whether the header announces no elements: such a file cannot be mapped."""
    try:
        return np.load(path, allow_pickle=False).size == 0
    except (ValueError, OSError, EOFError):
        return False


def _read_sidecar(path: Path, num_tokens: int) -> dict[str, Any]:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return {}
    try:
        metadata = json.loads(sidecar.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{sidecar} is not JSON ({error}); encode the text again") from error
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ValueError(f"{sidecar} does not describe a token file: expected the format {_FORMAT!r}; move it away")
    if metadata.get("tokens") != num_tokens:
        raise ValueError(
            f"{path} holds {num_tokens} tokens but {sidecar.name} says {metadata.get('tokens')!r}; encode it again"
        )
    return metadata
