"""Encoding of texts that do not fit into memory: iterables of strings, and files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpe.encoding.encoder import TextEncoder
from bpe.files import sync, whole_file, write_text
from bpe.progress import Progress
from bpe.text import StrPath, TextFile, is_compressed, utf8
from bpe.threads import check_threads, map_in_order
from bpe.vocabulary import TokenizerSpec

_LARGEST_BATCH = 1 << 16
_FORMAT = "scratchlm-tokens"
_MOST_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class EncodeReport:
    """Result of `encode_file`; `bytes` is the size of the text after the replacement of malformed UTF-8."""

    tokens: int
    bytes: int
    dtype: str
    invalid_utf8: int
    seconds: float
    path: Path

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text per token: the compression."""
        return self.bytes / self.tokens

    @property
    def megabytes_per_second(self) -> float:
        """Megabytes of text encoded per second; 0 if no time was measured."""
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0


def encode_iterable(encoder: TextEncoder, iterable: Iterable[str]) -> Iterator[int]:
    """Yield the ids of the strings of `iterable` joined together, lazily and in bounded memory.

    Raises:
        TypeError: If an item is not a string.
    """
    for block in encoder.cutter.blocks(_batches(iterable)):
        ids = encoder.block(block).ids
        yield from ids if isinstance(ids, list) else ids.tolist()


def _batches(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield the UTF-8 of the texts, first one by one, then in growing batches, never with half a surrogate pair."""
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
        # A high surrogate at the end waits for its low surrogate.
        split = len(joined) - ("\ud800" <= joined[-1] <= "\udbff")
        if split:
            yield utf8(joined[:split])
            enough = min(2 * enough, _LARGEST_BATCH)
        waiting, size = [joined[split:]], len(joined) - split
    if size:
        yield utf8("".join(waiting))


def encode_file(
    encoder: TextEncoder,
    path: StrPath,
    out_npy: StrPath,
    threads: int | None = None,
    *,
    progress: bool = False,
) -> EncodeReport:
    """Encode a text file to a one-dimensional .npy file, and describe it in a .json file of the same stem.

    The text is read, encoded and written in blocks, in order. Both files are on the disk before they take their names,
    first the .json and then the .npy, so that a .npy never lacks its .json. A failure leaves both as they were.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the text is empty, `out_npy` does not end in .npy or is not a regular file, one of the two files
            is the text itself, or the .json exists and does not describe a token file.
    """
    import numpy as np
    from numpy.lib.format import write_array_header_1_0 as write_header

    spec = encoder.spec
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
    encoder.prepare_for(size_on_disk)
    report = Progress("encoding", None if is_compressed(text.path) else size_on_disk, enabled=progress)
    # Written again with the number of tokens when it is known; NumPy pads the header to the same size.
    id_dtype = np.dtype(spec.id_dtype).newbyteorder("<")
    header = {"descr": id_dtype.str, "fortran_order": False, "shape": (0,)}
    made = None
    try:
        with whole_file(target) as file, report:
            write_header(file, header)
            for ids, size, replaced in map_in_order(encoder.block, text.blocks(encoder.cutter), threads):
                text.record(size, replaced)
                tokens += len(ids)
                report.update(text.bytes)
                file.write(np.asarray(ids, dtype=id_dtype).data)
            file.seek(0)
            write_header(file, {**header, "shape": (tokens,)})
            sync(file)
            made = os.fstat(file.fileno()).st_ino
            write_text(sidecar, _sidecar(spec, text, tokens))
    except BaseException:
        # The description must not stay alone or beside other tokens than it describes.
        if made is not None and not (target.exists() and target.stat().st_ino == made):
            _restore(sidecar, earlier)
        raise
    text.warn()
    return EncodeReport(tokens, text.bytes, spec.id_dtype, text.invalid_utf8, time.perf_counter() - begin, target)


def described_tokenizer(tokens: Path) -> str | None:
    """Return the SHA-256 of the tokenizer that wrote a token file, or None if no description beside it says so."""
    try:
        described = json.loads(tokens.with_suffix(".json").read_bytes()[:_MOST_SIDECAR_BYTES])
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(described, dict) and described.get("format") == _FORMAT
    return described.get("tokenizer_sha256") if is_ours else None


def _check_targets(text: Path, tokens: Path, sidecar: Path) -> bytes | None:
    """Refuse to overwrite the text or an unrelated .json file; return the description that will be replaced.

    Raises:
        IsADirectoryError: If one of the files to write is a folder.
        ValueError: If one of them is the text, a device, or a file that does not describe a token file.
    """
    for target in (tokens, sidecar):
        if text.exists() and target.exists() and target.samefile(text):
            raise ValueError(f"{str(target)!r} would overwrite the text itself; give the token file another name")
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
            f"{str(sidecar)!r} exists and does not describe a token file, but the description of {tokens.name!r} would "
            "replace it; move it away, or give the token file another name"
        )
    return content


def _restore(sidecar: Path, earlier: bytes | None) -> None:
    """Restore the earlier description, or delete the new one if there was none."""
    if earlier is None:
        sidecar.unlink(missing_ok=True)
    else:
        with whole_file(sidecar) as file:
            file.write(earlier)


def _sidecar(spec: TokenizerSpec, text: TextFile, tokens: int) -> str:
    """Return the JSON description of a token file."""
    facts = {
        "format": _FORMAT,
        "version": 1,
        "tokens": tokens,
        "bytes": text.bytes,
        "dtype": spec.id_dtype,
        "vocab_size": spec.vocab_size,
        "invalid_utf8": text.invalid_utf8,
        "source": text.path.name,
        "tokenizer_sha256": spec.sha256,
    }
    return json.dumps(facts, indent=2) + "\n"
