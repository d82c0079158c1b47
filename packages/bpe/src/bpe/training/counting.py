"""Counting of pre-tokens in files and in blocks of text, in plain Python or by the kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from bpe.kernels import COUNTING_BYTES, pay_off
from bpe.progress import Progress
from bpe.text import (
    BLOCK_BYTES,
    END_OF_TEXT,
    GPT2_PATTERN,
    Block,
    BlockCutter,
    Pattern,
    Scanner,
    SpecialTokenFinder,
    StrPath,
    TextFile,
    check_pattern,
    check_special_tokens,
    documents_of,
    find_files,
    scanner_of,
    split_pretokens,
    utf8,
)
from bpe.threads import call_aside, check_threads, map_in_order
from bpe.training.counts import PretokenCounts

if TYPE_CHECKING:
    from bpe.kernels.tables.pretokens import PretokenTable
    from bpe.training.counts import CountArrays


def count_pretokens(
    paths: StrPath | Iterable[StrPath],
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: Pattern = GPT2_PATTERN,
    column: str | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> PretokenCounts:
    """Count the pre-tokens of text files; special tokens separate texts and are not counted.

    An empty file among others is skipped, with a warning. Plain files are mapped into memory, so they must not be
    truncated while they are read.

    Args:
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a separate text.
        special_tokens: Strings that are taken out before the text is split.
        pattern: The regular expression of a pre-token, or several in a tuple, each of which splits further what the one
            before has left. Published ones run in kernels, any other in `regex`.
        column: The column of the texts if the files are tables: Parquet if they are named .parquet (needs pyarrow),
            else JSON lines (plain, .gz, .zst). Each row is a separate text.
        threads: The number of threads; None uses all cores.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If there is no text, a row has no string in the column, or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    return count_files(paths, special, check_pattern(pattern), column=column, threads=threads, progress=progress)


def count_files(
    paths: StrPath | Iterable[StrPath],
    special_tokens: list[str],
    pattern: Pattern,
    *,
    nfc: bool = False,
    column: str | None,
    threads: int | None,
    progress: bool,
) -> PretokenCounts:
    """Count the pre-tokens of files as `count_pretokens` does, or those of their normal form NFC."""
    threads = check_threads(threads)
    files = [TextFile(path, column) for path in find_files(paths, column)]
    finder = SpecialTokenFinder(special_tokens)
    # Compressed text is assumed to be four times as large when decompressed; the size of a stream is unknown.
    size = sum(file.path.stat().st_size * (4 if file.is_packed else 1) for file in files)
    streams = any(not file.path.is_file() for file in files)
    counter = _counter(finder, pattern, nfc=nfc, large=streams or pay_off(size, COUNTING_BYTES))

    def count(item: tuple[TextFile, Block]) -> tuple[TextFile, int, int, int]:
        file, block = item
        return (file, len(block.data), *counter.count(block))

    cutter = _cutter(finder, pattern, nfc=nfc)
    several = len(files) > 1
    blocks = ((file, block) for file in files for block in file.blocks(cutter, may_be_empty=several))
    known = [file.known_bytes() for file in files]
    with Progress("counting", None if None in known else sum(filter(None, known)), enabled=progress) as report:
        done = 0
        threads = threads if counter.kernels else 1  # more threads would compete for the interpreter
        for file, read, size, replaced in map_in_order(count, blocks, threads, kernels=counter.kernels):
            file.record(size, replaced)
            done += read
            report.update(done)
    if not any(file.bytes for file in files):
        raise ValueError(f"all {len(files)} files are empty, expected text; the first is {str(files[0].path)!r}")
    for file in files:
        file.warn()
    counts = counter.counts()
    counts.special_tokens = tuple(special_tokens)
    return counts


def count_texts(
    texts: Iterable[Any],
    special_tokens: list[str],
    pattern: Pattern,
    *,
    nfc: bool = False,
    column: str | None,
    threads: int | None,
    progress: bool,
) -> PretokenCounts:
    """Count the pre-tokens of the documents in `texts`, which `bpe.text.documents_of` describes.

    Raises:
        TypeError: If an item is of another type.
        ValueError: If a row has no such column.
    """
    threads = check_threads(threads)
    finder = SpecialTokenFinder(special_tokens)
    documents = map(Block, map(utf8, documents_of(texts, column)))
    blocks = (block for block, _ in _cutter(finder, pattern, nfc=nfc).blocks_of_texts(documents, BLOCK_BYTES))
    # The size of the first blocks decides between Python and the kernels.
    head: list[Block] = []
    size = 0
    while scanner_of(pattern) and not pay_off(size, COUNTING_BYTES) and (block := next(blocks, None)) is not None:
        head.append(block)
        size += len(block.data)
    counter = _counter(finder, pattern, nfc=nfc, large=pay_off(size, COUNTING_BYTES))
    with Progress("counting", enabled=progress) as report:
        counts = count_with(counter, chain(head, blocks), threads, report)
    counts.special_tokens = tuple(special_tokens)
    return counts


def _counter(finder: SpecialTokenFinder, pattern: Pattern, *, nfc: bool, large: bool) -> BlockCounter:
    """Return the counter of a text: kernels, or Python for small texts and for patterns that no kernel knows."""
    scanner = scanner_of(pattern) if large else None
    if scanner is None:
        return PythonCounter(finder, pattern, nfc=nfc)
    return KernelCounter(finder, pattern, scanner, nfc=nfc)


def _cutter(finder: SpecialTokenFinder, pattern: Pattern, *, nfc: bool) -> BlockCutter:
    """Return the cutter of a text; NFC can combine the characters on both sides of any cut but a special token."""
    return BlockCutter(finder, "" if nfc else pattern)


def count_with(
    counter: BlockCounter, blocks: Iterable[Block], threads: int, report: Progress | None = None
) -> PretokenCounts:
    """Count the pre-tokens of blocks with a given counter."""
    threads = threads if counter.kernels else 1
    done = 0
    for size, _ in map_in_order(counter.count, blocks, threads, kernels=counter.kernels):
        done += size
        if report is not None:
            report.update(done)
    return counter.counts()


class PythonCounter:
    """Counts with `regex`, in one thread."""

    kernels = False

    def __init__(self, finder: SpecialTokenFinder, pattern: Pattern, *, nfc: bool = False) -> None:
        self._finder = finder
        self._pattern = pattern
        self._nfc = nfc
        self._counts: Counter[str] = Counter()

    def count(self, block: Block) -> tuple[int, int]:
        """Count a block; return its number of bytes and of malformed sequences replaced by U+FFFD."""
        texts, size, replaced = block.texts(self._finder, nfc=self._nfc)
        for text, _ in texts:
            self._counts.update(split_pretokens(self._pattern, text))
        return size, replaced

    def counts(self) -> PretokenCounts:
        """Return the counts of all blocks."""
        counts = {pretoken.encode("utf-8"): count for pretoken, count in self._counts.items()}
        return PretokenCounts.from_trusted(counts, pattern=self._pattern)


class KernelCounter:
    """Counts with one table per thread, several at once, and finally adds the tables."""

    kernels = True

    def __init__(self, finder: SpecialTokenFinder, pattern: Pattern, scanner: Scanner, *, nfc: bool = False) -> None:
        self._finder = finder
        self._pattern = pattern
        self._nfc = nfc
        self._scanner = scanner
        self._idle: SimpleQueue[PretokenTable] = SimpleQueue()
        self._tables: list[PretokenTable] = []

    def count(self, block: Block) -> tuple[int, int]:
        """Count a block; return its number of bytes and of malformed sequences replaced by U+FFFD."""
        from bpe.kernels.tables.pretokens import PretokenTable

        replaced_before = 0
        if self._nfc:
            block, _, replaced_before = block.normalized(self._finder)
        data, spans, replaced = block.arrays(self._finder)
        try:
            table = self._idle.get_nowait()
        except Empty:
            table = PretokenTable()
            self._tables.append(table)
        table.count(data, spans, self._scanner)
        self._idle.put(table)
        return len(data), replaced + replaced_before

    def counts(self) -> PretokenCounts:
        """Return the counts of all blocks."""
        return PretokenCounts.from_arrays(*call_aside(self._added), pattern=self._pattern)

    def _added(self) -> CountArrays:
        """Return the sum of all tables."""
        from bpe.kernels.tables.pretokens import PretokenTable

        total, *others = self._tables or [PretokenTable()]
        while others:
            total.add(*others.pop().arrays())
        return total.arrays()


BlockCounter = PythonCounter | KernelCounter
