"""Encoding texts that are not held in memory: iterables of strings, and files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.cli.progress import Progress
from bpe.files import sync, whole_file, write_text
from bpe.text.compression import is_compressed
from bpe.text.files import TextFile
from bpe.text.utf8 import StrPath, utf8
from bpe.threads import check_threads, map_in_order

if TYPE_CHECKING:
    from bpe.encoding.encoder import TextEncoder
    from bpe.tokenizer import Tokenizer

_LARGEST_BATCH = 1 << 16
_HEADER_BYTES = 128
_FORMAT = "scratchlm-tokens"
_MOST_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class EncodeReport:
    """What `encode_file` did: `bytes` are those of the text in UTF-8 after malformed places were replaced."""

    tokens: int
    bytes: int
    dtype: str
    invalid_utf8: int
    seconds: float
    path: Path

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for each token: the compression."""
        return self.bytes / self.tokens

    @property
    def megabytes_per_second(self) -> float:
        """Millions of bytes of text encoded in a second; 0 if no time was taken."""
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0


def encode_iterable(encoder: TextEncoder, iterable: Iterable[str]) -> Iterator[int]:
    """Yield the ids of the strings of `iterable` joined together, lazily and in bounded memory.

    Raises:
        TypeError: If something in it is not a string.
    """
    for block in encoder.cutter.blocks(_batches(iterable)):
        ids = encoder.block(block).ids
        yield from ids if isinstance(ids, list) else ids.tolist()


def _batches(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield the UTF-8 of the texts, at first one by one, then more and more at a time, never half a surrogate pair."""
    waiting: list[str] = []
    size = 0
    enough = 1
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"iterable has a {type(text).__name__}, expected str; decode bytes first")
        waiting.append(text)
        size += len(text)
        if size < enough or not text:
            continue
        joined = "".join(waiting)
        # A high surrogate at the end waits for its other half.
        split = len(joined) - ("\ud800" <= joined[-1] <= "\udbff")
        if split:
            yield utf8(joined[:split])
            enough = min(2 * enough, _LARGEST_BATCH)
        waiting, size = [joined[split:]], len(joined) - split
    if size:
        yield utf8("".join(waiting))


def encode_file(
    tokenizer: Tokenizer,
    encoder: TextEncoder,
    path: StrPath,
    out_npy: StrPath,
    threads: int | None = None,
    *,
    progress: bool = False,
) -> EncodeReport:
    """Encode a text file to a one-dimensional .npy file and a .json file of the same stem that describes it.

    The text is read, encoded and written in blocks, in order. Both files are on the disk before the .json and right
    after it the .npy take their names, so that where the .npy is, the .json is. What fails leaves both as they were.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the text is empty, `out_npy` does not end in .npy or is no regular file, it or the .json is the
            text itself, or the .json is there and describes no token file.
    """
    import numpy as np

    begin = time.perf_counter()
    threads = check_threads(threads)
    target = Path(out_npy)
    if target.suffix != ".npy":
        raise ValueError(f"out_npy is {str(target)!r}, expected a name that ends in .npy; add it")
    text = TextFile(path)
    sidecar = target.with_suffix(".json")
    earlier = _check_targets(text.path, target, sidecar)
    tokens = 0
    size_on_disk = text.path.stat().st_size if text.path.exists() else 0
    encoder.expect(size_on_disk)
    report = Progress("encoding", None if is_compressed(text.path) else size_on_disk, enabled=progress)
    made = None
    try:
        with whole_file(target) as file, report:
            file.write(bytes(_HEADER_BYTES))
            for ids, size, replaced in map_in_order(encoder.block, text.blocks(encoder.cutter), threads):
                text.took(size, replaced)
                tokens += len(ids)
                report.update(text.bytes)
                file.write(np.asarray(ids, dtype=tokenizer.id_dtype).data)
            file.seek(0)
            file.write(_npy_header(tokens, tokenizer.id_dtype))
            sync(file)
            made = os.fstat(file.fileno()).st_ino
            write_text(sidecar, _sidecar(tokenizer, text, tokens))
    except BaseException:
        # A description must not stay beside other tokens than it describes, or alone.
        if made is not None and not (target.exists() and target.stat().st_ino == made):
            _put_back(sidecar, earlier)
        raise
    text.warn()
    return EncodeReport(tokens, text.bytes, tokenizer.id_dtype, text.invalid_utf8, time.perf_counter() - begin, target)


def _check_targets(text: Path, tokens: Path, sidecar: Path) -> bytes | None:
    """Refuse to write over the text, or over a .json of something else; return the description that is replaced.

    Raises:
        IsADirectoryError: If one of the files to write is a folder.
        ValueError: If they are something else that is not theirs to replace.
    """
    for target in (tokens, sidecar):
        if text.exists() and target.exists() and target.samefile(text):
            raise ValueError(f"{str(target)!r} would be written over the text itself; give the token file another name")
        if target.is_dir():
            raise IsADirectoryError(f"{str(target)!r} is a folder, expected the name of a file to write; give another")
        if target.exists() and not target.is_file():
            raise ValueError(f"{str(target)!r} is a device or a pipe, expected a regular file; give another name")
    if not sidecar.exists():
        return None
    with sidecar.open("rb") as file:
        content = file.read(_MOST_SIDECAR_BYTES)
    try:
        described = json.loads(content)
    except (ValueError, RecursionError):
        described = None
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise ValueError(
            f"{str(sidecar)!r} is there and describes no token file, but the description of {tokens.name!r} would "
            "replace it; move it away, or give the token file another name"
        )
    return content


def _put_back(sidecar: Path, earlier: bytes | None) -> None:
    """Bring back the description that was there, or that there was none."""
    if earlier is None:
        sidecar.unlink(missing_ok=True)
    else:
        with whole_file(sidecar) as file:
            file.write(earlier)


def _npy_header(tokens: int, dtype: str) -> bytes:
    """Return the header of a one-dimensional .npy file, version 1.0 of the format, always of the same size."""
    description = {"uint16": "<u2", "uint32": "<u4"}[dtype]
    fields = f"{{'descr': '{description}', 'fortran_order': False, 'shape': ({tokens},), }}"
    start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return start + fields.ljust(_HEADER_BYTES - 11).encode("ascii") + b"\n"


def _sidecar(tokenizer: Tokenizer, text: TextFile, tokens: int) -> str:
    """Return the description of a token file as JSON."""
    facts = {
        "format": _FORMAT,
        "version": 1,
        "tokens": tokens,
        "bytes": text.bytes,
        "dtype": tokenizer.id_dtype,
        "vocab_size": tokenizer.vocab_size,
        "invalid_utf8": text.invalid_utf8,
        "source": text.path.name,
        "tokenizer_sha256": tokenizer.sha256,
    }
    return json.dumps(facts, indent=2) + "\n"
