"""Counting of pre-tokens in files and in blocks of text, in plain Python or by the kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from bpe.kernels import COUNTING_BYTES
from bpe.progress import Progress
from bpe.text import (
    END_OF_TEXT,
    GPT2_PATTERN,
    Block,
    BlockCutter,
    Scanner,
    SpecialTokenFinder,
    StrPath,
    TextFile,
    check_special_tokens,
    compile_pattern,
    find_files,
    is_compressed,
    scanner_of,
    split_pretokens,
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
    pattern: str = GPT2_PATTERN,
    threads: int | None = None,
    progress: bool = False,
) -> PretokenCounts:
    """Count the pre-tokens of text files; special tokens separate texts and are not counted.

    An empty file among others is skipped, with a warning.

    Args:
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a separate text.
        special_tokens: Strings that are taken out before the text is split.
        pattern: The regular expression of a pre-token. Published ones run in kernels, any other in `regex`.
        threads: The number of threads; None uses all cores.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If there is no text, or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    compile_pattern(pattern)
    threads = check_threads(threads)
    files = [TextFile(path) for path in find_files(paths)]
    finder = SpecialTokenFinder(special)
    compressed = [is_compressed(file.path) for file in files]
    sizes = [file.path.stat().st_size for file in files]
    # Compressed text is assumed to be four times as large when decompressed; the size of a stream is unknown.
    size = sum(4 * size if packed else size for size, packed in zip(sizes, compressed, strict=True))
    streams = any(not file.path.is_file() for file in files)
    counter = _counter(finder, pattern, large=size > COUNTING_BYTES or streams)

    def count(item: tuple[TextFile, Block]) -> tuple[TextFile, int, int, int]:
        file, block = item
        return (file, len(block.data), *counter.count(block))

    cutter = BlockCutter(finder, pattern)
    several = len(files) > 1
    blocks = ((file, block) for file in files for block in file.blocks(cutter, may_be_empty=several))
    with Progress("counting", None if any(compressed) else size, enabled=progress) as report:
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
    counts.special_tokens = tuple(special)
    return counts


def _counter(finder: SpecialTokenFinder, pattern: str, *, large: bool) -> BlockCounter:
    """Return the counter of a text: kernels, or Python for small texts and for patterns that no kernel knows."""
    scanner = scanner_of(pattern) if large else None
    return PythonCounter(finder, pattern) if scanner is None else KernelCounter(finder, pattern, scanner)


def count_blocks(blocks: Iterable[Block], finder: SpecialTokenFinder, pattern: str, threads: int) -> PretokenCounts:
    """Count the pre-tokens of blocks; `finder` searches the blocks whose special tokens are not known."""
    rest = iter(blocks)
    head: list[Block] = []
    size = 0
    while scanner_of(pattern) and size <= COUNTING_BYTES and (block := next(rest, None)) is not None:
        head.append(block)
        size += len(block.data)
    return count_with(_counter(finder, pattern, large=size > COUNTING_BYTES), chain(head, rest), threads)


def count_with(counter: BlockCounter, blocks: Iterable[Block], threads: int) -> PretokenCounts:
    """Count the pre-tokens of blocks with a given counter."""
    for _ in map_in_order(counter.count, blocks, threads if counter.kernels else 1, kernels=counter.kernels):
        pass
    return counter.counts()


class PythonCounter:
    """Counts with `regex`, in one thread."""

    kernels = False

    def __init__(self, finder: SpecialTokenFinder, pattern: str) -> None:
        self._finder = finder
        self._pattern = pattern
        self._counts: Counter[str] = Counter()

    def count(self, block: Block) -> tuple[int, int]:
        """Count a block; return its number of bytes and of malformed sequences replaced by U+FFFD."""
        texts, size, replaced = block.texts(self._finder)
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

    def __init__(self, finder: SpecialTokenFinder, pattern: str, scanner: Scanner) -> None:
        self._finder = finder
        self._pattern = pattern
        self._scanner = scanner
        self._idle: SimpleQueue[PretokenTable] = SimpleQueue()
        self._tables: list[PretokenTable] = []

    def count(self, block: Block) -> tuple[int, int]:
        """Count a block; return its number of bytes and of malformed sequences replaced by U+FFFD."""
        from bpe.kernels.tables.pretokens import PretokenTable

        data, spans, replaced = block.arrays(self._finder)
        try:
            table = self._idle.get_nowait()
        except Empty:
            table = PretokenTable()
            self._tables.append(table)
        table.count(data, spans, self._scanner)
        self._idle.put(table)
        return len(data), replaced

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
