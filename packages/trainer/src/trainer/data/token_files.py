"""Files of token ids, and metadata about their text."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from trainer.data.windows import TokenArray, dtype_advice

_MAGIC = b"\x93NUMPY"
_FORMAT = "scratchlm-tokens"
_SCANNED_TOGETHER = 1 << 16  # ids: bounds the memory
_OTHER_FILES = {
    b"PK\x03\x04": "an .npz archive or another zip file",
    b"\x80": "a pickle",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}


class TokenDataset:
    """A file of token ids that is read piece by piece.

    The file is a one-dimensional `.npy` of uint16 or uint32. A `.json` of the same stem beside it may give its `bytes`
    (UTF-8 bytes of the text), `special_bytes` (those of them that are special tokens), `vocab_size` and
    `tokenizer_sha256`; without it they are None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such array, empty or cut short, or the `.json` contradicts it.
    """

    def __init__(self, npy_path: str | os.PathLike[str]) -> None:
        self.path = Path(npy_path)
        self.dtype, self._length, self._offset = _read_header(self.path)
        self.metadata: dict[str, Any] = _read_sidecar(self.path, self._length)
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[TokenDataset], tuple[Path]]:
        return TokenDataset, (self.path,)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"TokenDataset({str(self.path)!r}: {self.num_tokens:,} tokens, {self.dtype})"

    @cached_property
    def tokens(self) -> TokenArray:
        """The ids as a read-only memory map, for code that wants an array; the trainer itself reads the file."""
        return np.memmap(self.path, self.dtype, mode="r", offset=self._offset, shape=(self._length,))

    @property
    def num_tokens(self) -> int:
        """Token ids in the file."""
        return self._length

    @property
    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the encoded text without those of special tokens, which separate documents."""
        size = self.metadata.get("bytes")
        return None if size is None else size - self.metadata.get("special_bytes", 0)

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
        return max(int(chunk.max()) for chunk in self._chunks())

    def read_windows(self, starts: TokenArray, length: int) -> TokenArray:
        """Read windows anywhere in the file.

        Plain reads are several times as fast as a memory map, where every window costs a page fault. A file that is cut
        short meanwhile raises an error; with a memory map it would kill the process.

        Args:
            starts: (windows,) indices of their first ids.
            length: Ids in a window.

        Returns:
            (windows, length) int64.

        Raises:
            OSError: If the file has become shorter.
        """
        content = b"".join(self._read(start, length) for start in starts.tolist())
        return np.frombuffer(content, self.dtype).reshape(len(starts), length).astype(np.int64)

    def check_ids(self, vocab_size: int) -> None:
        """Check that a model with `vocab_size` embeddings can read every id.

        Raises:
            ValueError: If an id is too large.
        """
        if self.max_token_id >= vocab_size:
            raise ValueError(
                f"{self.path} holds the token id {self.max_token_id}: expected ids below the vocabulary size "
                f"{vocab_size}; encode the text with the model's own tokenizer"
            )

    def _chunks(self) -> Iterator[TokenArray]:
        for begin in range(0, self._length, _SCANNED_TOGETHER):
            yield np.frombuffer(self._read(begin, min(_SCANNED_TOGETHER, self._length - begin)), self.dtype)

    def _read(self, begin: int, length: int) -> bytes:
        size, place = length * self.dtype.itemsize, self._offset + begin * self.dtype.itemsize
        if hasattr(os, "pread"):
            content = os.pread(self._descriptor, size, place)
        else:  # Windows
            with self._lock:
                os.lseek(self._descriptor, place, os.SEEK_SET)
                content = os.read(self._descriptor, size)
        if len(content) != size:
            raise OSError(f"{self.path} was cut short while it was read: restore it and run again")
        return content


def _read_header(path: Path) -> tuple[np.dtype[Any], int, int]:
    """Return the type of the ids, their number, and the offset of the first one in bytes."""
    if not path.is_file():
        raise FileNotFoundError(f"no token file at {path}: expected an .npy file of token ids; encode a text into it")
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            kind = next((f", {kind}" for begin, kind in _OTHER_FILES.items() if magic.startswith(begin)), "")
            raise ValueError(
                f"{path} is not a token file: it begins with {magic!r}{kind}, expected an .npy file; encode it again, "
                "or save the ids with numpy.save"
            )
        file.seek(0)
        try:
            read = {1: npy_format.read_array_header_1_0, 2: npy_format.read_array_header_2_0}
            shape, _, dtype = read[npy_format.read_magic(file)[0]](file)
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise ValueError(f"{path} is cut short or damaged ({error}); encode the text again") from error
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{path} holds Python objects: expected uint16 or uint32; {dtype_advice(np.empty(0))}")
    if len(shape) != 1:
        raise ValueError(f"{path} has the shape {shape}: expected one dimension; save the ids as one row")
    if shape[0] == 0:
        raise ValueError(f"{path} is empty: it holds no tokens; encode a text that is not empty")
    size, expected = path.stat().st_size, offset + shape[0] * dtype.itemsize
    if size < expected:
        reason = f"it has {size:,} bytes, expected {expected:,}"
        raise ValueError(f"{path} is cut short or damaged ({reason}); encode the text again")
    if dtype.kind != "u" or dtype.itemsize not in (2, 4):
        advice = dtype_advice(np.load(path, mmap_mode="r"))
        raise ValueError(f"{path} holds {dtype}: expected uint16 or uint32; {advice}")
    return dtype, shape[0], offset


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
