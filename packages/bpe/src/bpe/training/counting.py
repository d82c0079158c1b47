"""Counting pre-tokens in files and blocks of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from bpe.cli.progress import Progress
from bpe.text.blocks import Block, BlockCutter
from bpe.text.compression import is_compressed
from bpe.text.files import TextFile
from bpe.text.patterns import GPT2_PATTERN, Scanner, compile_pattern, scanner_of, split_pieces
from bpe.text.special_tokens import END_OF_TEXT, SpecialTokenFinder, check_special_tokens
from bpe.text.utf8 import StrPath, find_files
from bpe.threads import check_threads, map_in_order
from bpe.training.counts import PretokenCounts

if TYPE_CHECKING:
    from bpe.training.word_table import WordTable

PYTHON_BYTES = 1 << 20
"""Up to this much text is counted in Python: loading the kernels would take longer than the work."""


def count_pretokens(
    paths: StrPath | Iterable[StrPath],
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str = GPT2_PATTERN,
    threads: int | None = None,
    progress: bool = False,
) -> PretokenCounts:
    """Count the pre-tokens of text files; special tokens separate texts and are not counted.

    Args:
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a text of its own.
        special_tokens: Strings that are taken out before the text is split.
        pattern: The regular expression of a pre-token; those of GPT-2 and cl100k run in kernels, others in `regex`.
        threads: How many threads to use; None is all cores.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If a file is empty or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    finder = SpecialTokenFinder(special)
    compile_pattern(pattern)
    threads = check_threads(threads)
    files = [TextFile(path) for path in find_files(paths)]
    cutter = BlockCutter(finder, pattern)
    counter = _counter(files, finder, pattern)

    def count(item: tuple[TextFile, Block]) -> tuple[TextFile, int, int, int]:
        file, block = item
        return (file, len(block.data), *counter.count(block))

    # With another pattern, the interpreter does the work: more threads would only stand in each other's way.
    blocks = ((file, block) for file in files for block in file.blocks(cutter))
    kernels = isinstance(counter, _KernelCounter)
    with Progress("counting", _total_bytes(files), enabled=progress) as report:
        done = 0
        for file, read, size, replaced in map_in_order(count, blocks, threads if kernels else 1, kernels=kernels):
            file.took(size, replaced)
            done += read
            report.update(done)
    for file in files:
        file.warn()
    counts = counter.counts()
    counts.special_tokens = tuple(special)
    return counts


def _total_bytes(files: list[TextFile]) -> int | None:
    """Return the size of the text in all files, if it is known before they are read."""
    if any(is_compressed(file.path) for file in files):
        return None
    return sum(file.path.stat().st_size for file in files)


def _counter(files: list[TextFile], finder: SpecialTokenFinder, pattern: str) -> _Counter:
    """Return what counts these files: the kernels, or Python for little text and for patterns they do not know."""
    # What the kernels cost to load is worth it for less compressed text.
    size = sum(file.path.stat().st_size * (4 if is_compressed(file.path) else 1) for file in files)
    streams = any(not Path(file.path).is_file() for file in files)
    scanner = scanner_of(pattern)
    if scanner is not None and (size > PYTHON_BYTES or streams):
        return _KernelCounter(finder, pattern, scanner)
    return _PythonCounter(finder, pattern)


def count_blocks(
    blocks: Iterable[Block], pattern: str, threads: int, engine: str = "auto", finder: SpecialTokenFinder | None = None
) -> PretokenCounts:
    """Count the pre-tokens of blocks of text.

    `engine` is "python", "kernels", or "auto": Python for little text and for patterns that the kernels do not know;
    `finder` is for blocks that do not know their special tokens.
    """
    finder = finder or SpecialTokenFinder([])
    if engine == "auto":
        engine, blocks = _chosen_engine(blocks, pattern)
    scanner, kernels = scanner_of(pattern), engine == "kernels"
    counter = _KernelCounter(finder, pattern, scanner) if kernels and scanner else _PythonCounter(finder, pattern)
    for _ in map_in_order(counter.count, blocks, threads if kernels else 1, kernels=kernels):
        pass
    return counter.counts()


def _chosen_engine(blocks: Iterable[Block], pattern: str) -> tuple[str, Iterable[Block]]:
    """Return the engine for so much text, and the blocks, of which the first may have been looked at."""
    if scanner_of(pattern) is None:
        return "python", blocks
    head: list[Block] = []
    size = 0
    rest: Iterator[Block] = iter(blocks)
    for block in rest:
        head.append(block)
        size += len(block.data)
        if size > PYTHON_BYTES:
            return "kernels", chain(head, rest)
    return "python", head


class _Counter(Protocol):
    """Counts blocks, from several threads at once."""

    def count(self, block: Block) -> tuple[int, int]:
        """Count a block; return its bytes and the U+FFFD put in for malformed UTF-8."""

    def counts(self) -> PretokenCounts:
        """Return the counts of all blocks, after the last."""


class _PythonCounter:
    """Counts with `regex`."""

    def __init__(self, finder: SpecialTokenFinder, pattern: str) -> None:
        self._finder = finder
        self._pattern = pattern
        self._counts: Counter[str] = Counter()

    def count(self, block: Block) -> tuple[int, int]:
        texts, size, replaced = block.texts(self._finder)
        for text, _ in texts:
            self._counts.update(split_pieces(self._pattern, text))
        return size, replaced

    def counts(self) -> PretokenCounts:
        pieces = {piece.encode("utf-8"): count for piece, count in self._counts.items()}
        return PretokenCounts._trusted(pieces, self._pattern)


class _KernelCounter:
    """Counts with one table per thread, and adds the tables."""

    def __init__(self, finder: SpecialTokenFinder, pattern: str, scanner: Scanner) -> None:
        self._finder = finder
        self._pattern = pattern
        self._scanner = scanner
        self._idle: SimpleQueue[WordTable] = SimpleQueue()
        self._tables: list[WordTable] = []

    def count(self, block: Block) -> tuple[int, int]:
        from bpe.text.block_arrays import arrays_of
        from bpe.training.word_table import WordTable

        data, spans, replaced = arrays_of(block, self._finder)
        try:
            table = self._idle.get_nowait()
        except Empty:
            table = WordTable()
            self._tables.append(table)
        table.count(data, spans, self._scanner)
        self._idle.put(table)
        return len(data), replaced

    def counts(self) -> PretokenCounts:
        from bpe.training.word_table import WordTable

        total, *others = self._tables or [WordTable()]
        while others:
            total.add(*others.pop().words())
        return PretokenCounts.from_arrays(*total.words(), pattern=self._pattern)
