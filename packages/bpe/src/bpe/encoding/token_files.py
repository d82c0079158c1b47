"""Encoding of texts that do not fit into memory: iterables of strings, files, and rows of tables."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpe import kernels
from bpe.encoding.encoder import TextEncoder
from bpe.encoding.token_writer import TokenFile, TokenWriter, token_writer
from bpe.progress import Progress
from bpe.text import END_OF_TEXT, Block, SpecialTokenFinder, StrPath, TextFile, replace_malformed, utf8
from bpe.threads import check_threads, map_in_order
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

_LARGEST_BATCH = 1 << 16
_BATCH_OF_DOCUMENTS = 1 << 24


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
    out: StrPath,
    threads: int | None = None,
    *,
    file_format: str | None = None,
    documents: bool | None = None,
    column: str | None = None,
    source: str | None = None,
    progress: bool = False,
) -> EncodeReport:
    """Encode a text file to a token file, and describe it in a .json file of the same stem.

    The text is read, encoded and written in blocks, in order. All files are on the disk before they take their names,
    the tokens last, so that a token file never lacks its description. A failure leaves all of them as they were.

    Args:
        encoder: The encoder of a tokenizer.
        path: The text.
        out: The token file. Its suffix gives the format: .npy, .bin (llm.c) or .idx (Megatron, with a .bin).
        threads: The number of threads; None uses all cores.
        file_format: "npy", "llm.c" or "megatron"; None takes it from `out`.
        documents: Whether to write an index of documents, which end at `<|endoftext|>`; None: unless the format is npy.
        column: The column of the texts if the file is a table. Each row is a document, and gets `<|endoftext|>` at its
            end; the index has the number of the row in the place of a position in the file.
        source: The name of the text in the description; None means the name of the file.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the text is empty or too large for the format, the name does not suit it, a file would replace
            the text itself or something that does not belong to a token file, or a row has no text.
    """
    begin = time.perf_counter()
    threads = check_threads(threads)
    place = TokenFile.named(out, file_format, documents)
    text = TextFile(path, column)
    place.check(text.path)
    name = text.path.name if source is None else source
    place.companions({"source": name, "tokenizer_sha256": encoder.spec.sha256})
    encode = _encode_text if column is None else _encode_rows
    size = text.known_bytes()
    with token_writer(place, encoder.spec) as writer, Progress("encoding", size, enabled=progress) as report:
        encode(encoder, text, writer, threads, report)
        writer.finish(name, text.bytes, text.invalid_utf8, "byte" if column is None else "row")
    text.warn()
    seconds = time.perf_counter() - begin
    return EncodeReport(writer.tokens, text.bytes, encoder.spec.id_dtype, text.invalid_utf8, seconds, place.tokens)


def _encode_text(encoder: TextEncoder, text: TextFile, writer: TokenWriter, threads: int, report: Progress) -> None:
    """Encode a text in blocks."""
    import numpy as np

    encoder.prepare_for(text.path.stat().st_size if text.path.exists() else 0)
    ends = _DocumentEnds(encoder.spec) if writer.needs_documents else None
    id_dtype = encoder.spec.id_dtype

    def encode(block: Block) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        encoded = encoder.block(block)
        ids = np.asarray(encoded.ids, dtype=id_dtype)
        begins = np.empty((0, 2), dtype=np.int64) if ends is None else ends.of(block, ids)
        return ids, begins, len(block.data), encoded.bytes, encoded.replaced

    read = 0
    writer.write(np.empty(0, dtype=id_dtype), np.zeros((1, 2), dtype=np.int64))
    for ids, begins, length, size, replaced in map_in_order(encode, text.blocks(encoder.cutter), threads):
        writer.write(ids, begins + np.array((writer.tokens, read)))
        read += length
        text.record(size, replaced)
        report.update(text.bytes)


def _encode_rows(encoder: TextEncoder, table: TextFile, writer: TokenWriter, threads: int, report: Progress) -> None:
    """Encode the rows of a table, each with the end of a document."""
    import numpy as np

    end_id = encoder.spec.special_ids.get(END_OF_TEXT)
    if end_id is None:
        raise ValueError(f"the tokenizer has no {END_OF_TEXT}, which ends every document; train one that has it")
    end = np.array([end_id], dtype=encoder.spec.id_dtype)
    rows = 0
    for batch in _batches_of_documents(table.documents()):
        ids = [part for one in encoder.batch(batch, threads) for part in (one, end)]
        lengths = np.array(list(map(len, ids)), dtype=np.int64).reshape(-1, 2).sum(axis=1)
        begins = np.column_stack((writer.tokens + np.cumsum(lengths) - lengths, rows + np.arange(len(batch))))
        writer.write(np.concatenate(ids), begins)
        rows += len(batch)
        writer.special_bytes -= len(batch) * len(END_OF_TEXT)  # which the text does not have
        table.record(sum(len(utf8(text)) for text in batch), 0)
        report.update(table.bytes)
    if not rows:
        raise ValueError(f"file {str(table.path)!r} has no rows, expected at least one; check how it was made")


def _batches_of_documents(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in lists of about `_BATCH_OF_DOCUMENTS` characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_OF_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _DocumentEnds:
    """Finds the ends of documents: the special token `<|endoftext|>`, unless it is part of a longer special token."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self._id = spec.special_ids.get(END_OF_TEXT, -1)
        self._index = spec.special_tokens.index(END_OF_TEXT) if self._id >= 0 else -1
        self._finder = SpecialTokenFinder(spec.special_tokens)
        self._only = SpecialTokenFinder([END_OF_TEXT])

    def of(self, block: Block, ids: np.ndarray) -> np.ndarray:
        """Return the number of ids and of bytes up to the end of each document in a block: int64, shape (ends, 2)."""
        import numpy as np

        ends = np.flatnonzero(ids == self._id) + 1
        if not len(ends):
            return np.empty((0, 2), dtype=np.int64)
        places = self._occurrences(block.data)[:, 1]
        if len(places) != len(ends):
            # Replacements change positions, but neither the number nor the order of the occurrences.
            cleaned, _ = replace_malformed(bytes(block.data))
            true = {start for start, _, index in self._finder.spans(cleaned) if index == self._index}
            places = places[[start in true for start in self._occurrences(cleaned)[:, 0].tolist()]]
        return np.column_stack((ends, places))

    def _occurrences(self, data: bytes | memoryview) -> np.ndarray:
        """Return the spans of all `<|endoftext|>` in a text, also of those in longer special tokens."""
        import numpy as np

        if not kernels.encoding_loaded():
            return np.array(self._only.spans(bytes(data)), dtype=np.int64).reshape(-1, 3)
        from bpe.kernels.machine.arrays import read_only

        return self._only.find(read_only(data))
