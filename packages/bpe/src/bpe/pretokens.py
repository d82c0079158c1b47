"""Counting pre-tokens: how often each distinct piece of text occurs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from bpe.files import whole_file
from bpe.patterns import GPT2_PATTERN, compile_pattern, is_gpt2_pattern, split_pieces
from bpe.special_tokens import END_OF_TEXT, SpecialTokenFinder, check_special_tokens
from bpe.texts import Block, BlockCutter, StrPath, TextFile, find_files
from bpe.threads import check_threads, map_in_order

if TYPE_CHECKING:
    import numpy as np

    from bpe.word_table import WordTable

PYTHON_BYTES = 1 << 20
"""Up to this much text is counted in Python: loading the kernels would take longer than the work."""


class PretokenCounts(Mapping[bytes, int]):
    """How often each distinct pre-token (bytes) occurs; `a + b` adds them up, `save` and `load` keep them.

    The counts of parts of a corpus, added together, are the counts of the whole.
    """

    def __init__(self, counts: Mapping[bytes, int] | None = None) -> None:
        """Take the counts of a mapping.

        Raises:
            ValueError: If a key is not non-empty bytes or a count not a whole number of at least 1.
        """
        for piece, count in (counts or {}).items():
            if not isinstance(piece, bytes) or not piece:
                raise ValueError(f"pre-token {piece!r} is not non-empty bytes; encode strings as UTF-8")
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"count of pre-token {piece!r} is {count!r}, expected a whole number of at least 1")
        self._counts: dict[bytes, int] = dict(counts or {})

    @classmethod
    def _trusted(cls, counts: dict[bytes, int]) -> PretokenCounts:
        """Wrap counts made by this package without looking at each."""
        made = cls()
        made._counts = counts
        return made

    def __getitem__(self, piece: bytes) -> int:
        return self._counts[piece]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __add__(self, other: Mapping[bytes, int]) -> PretokenCounts:
        if not isinstance(other, Mapping):
            return NotImplemented
        total = dict(self._counts)
        for piece, count in (other if isinstance(other, PretokenCounts) else PretokenCounts(other)).items():
            total[piece] = total.get(piece, 0) + count
        return PretokenCounts._trusted(total)

    def __repr__(self) -> str:
        return f"PretokenCounts({len(self):,} distinct, {self.total:,} in all)"

    @property
    def total(self) -> int:
        """The number of pre-tokens counted, repetitions included."""
        return sum(self._counts.values())

    @property
    def total_bytes(self) -> int:
        """The number of bytes of the pre-tokens counted, repetitions included."""
        return sum(len(piece) * count for piece, count in self._counts.items())

    def most_common(self, number: int) -> list[tuple[bytes, int]]:
        """Return the most frequent pre-tokens with their counts, the greater bytes first among equals."""
        return sorted(self._counts.items(), key=lambda item: (item[1], item[0]), reverse=True)[:number]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pre-tokens, sorted, as bytes uint8 (total,), offsets int64 (n + 1,) and counts int64 (n,)."""
        import numpy as np

        pieces = sorted(self._counts)
        offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces)), out=offsets[1:])
        counts = np.fromiter((self._counts[piece] for piece in pieces), dtype=np.int64, count=len(pieces))
        return np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets, counts

    @classmethod
    def from_arrays(cls, words: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> PretokenCounts:
        """Make counts of the arrays that `arrays` returns, in any order."""
        data = words.tobytes()
        bounds = offsets.tolist()
        pieces = (data[start:end] for start, end in pairwise(bounds))
        return cls._trusted(dict(zip(pieces, counts.tolist(), strict=True)))

    def save(self, path: StrPath) -> None:
        """Write the counts to a NumPy .npz file; the same counts make the same file."""
        import numpy as np

        words, offsets, counts = self.arrays()
        with whole_file(Path(path)) as file:
            np.savez(file, words=words, offsets=offsets, counts=counts)

    @classmethod
    def load(cls, path: StrPath) -> PretokenCounts:
        """Read counts that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not such a file.
        """
        import zipfile

        import numpy as np

        if not Path(path).exists():
            raise FileNotFoundError(f"no file {str(path)!r}; check the path")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                words, offsets, counts = arrays["words"], arrays["offsets"], arrays["counts"]
            return cls.from_arrays(words, offsets, counts)
        except (ValueError, KeyError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"file {str(path)!r} has no pre-token counts; make it with PretokenCounts.save") from error


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
        paths: One path or several: files (plain, .gz, .zst) or folders of them.
        special_tokens: Strings that are taken out before the text is split.
        pattern: The regular expression of a pre-token; GPT-2's runs in kernels, any other in `regex`.
        threads: How many threads to use; None is all cores.
        progress: Whether to report the megabytes read on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If a file is empty or an argument is wrong.
    """
    finder = SpecialTokenFinder(check_special_tokens(special_tokens))
    compile_pattern(pattern)
    threads = check_threads(threads)
    files = find_files(paths)
    blocks = (block for path in files for block in BlockCutter(finder, pattern).blocks(TextFile(path).chunks()))
    return count_blocks(_reported(blocks) if progress else blocks, pattern, threads)


def _reported(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks and keep a line on stderr up to date with how much has been read."""
    size = 0
    for block in blocks:
        yield block
        size += len(block.data)
        print(f"\rcounting: {size / 1e6:,.0f} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def count_blocks(blocks: Iterable[Block], pattern: str, threads: int, engine: str = "auto") -> PretokenCounts:
    """Count the pre-tokens of blocks of text.

    `engine` is "python", "kernels", or "auto": Python for little text and for patterns other than GPT-2's.
    """
    if engine == "auto":
        engine = "python"
        if is_gpt2_pattern(pattern):
            head: list[Block] = []
            size = 0
            rest = iter(blocks)
            for block in rest:
                head.append(block)
                size += len(block.data)
                if size > PYTHON_BYTES:
                    engine = "kernels"
                    break
            blocks = chain(head, rest)
    return _count_with_kernels(blocks, threads) if engine == "kernels" else _count_in_python(blocks, pattern)


def _count_in_python(blocks: Iterable[Block], pattern: str) -> PretokenCounts:
    """Count with `regex`."""
    counts: Counter[str] = Counter()
    for block in blocks:
        for text, _ in block.texts():
            counts.update(split_pieces(pattern, text))
    return PretokenCounts._trusted({piece.encode("utf-8"): count for piece, count in counts.items()})


def _count_with_kernels(blocks: Iterable[Block], threads: int) -> PretokenCounts:
    """Count with one table per thread, and add the tables."""
    from bpe.word_table import WordTable

    idle: SimpleQueue[WordTable] = SimpleQueue()
    tables: list[WordTable] = []

    def count(block: Block) -> None:
        try:
            table = idle.get_nowait()
        except Empty:
            table = WordTable()
            tables.append(table)
        table.count(block)
        idle.put(table)

    for _ in map_in_order(count, blocks, threads):
        pass
    total, *others = tables or [WordTable()]
    for other in others:
        total.add(*other.words())
    return PretokenCounts.from_arrays(*total.words())
