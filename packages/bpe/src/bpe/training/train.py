"""Training: from text to merges to a tokenizer."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from bpe.cli.progress import Progress
from bpe.text.blocks import BLOCK_BYTES, Block, BlockCutter
from bpe.text.patterns import GPT2_PATTERN, compile_pattern
from bpe.text.special_tokens import END_OF_TEXT, Span, SpecialTokenFinder, check_special_tokens
from bpe.text.utf8 import StrPath, find_files, utf8
from bpe.threads import check_threads
from bpe.tokenizer import Tokenizer
from bpe.training.counting import count_blocks, count_pretokens
from bpe.training.counts import PretokenCounts

if TYPE_CHECKING:
    import numpy as np

PYTHON_WORD_BYTES = 1 << 18
"""Up to so many bytes of distinct words are merged in Python: loading the kernels would take longer than the work."""

_MAX_CELLS = 2**31 - 1
_MERGES_AT_ONCE, _MOST_MERGES_AT_ONCE = 256, 1 << 14
"""After so many merges the interpreter gets its turn: for Ctrl-C and the progress report."""
_TURN_SECONDS = 0.05
"""Turns shorter than this are doubled, since each costs a tenth of a millisecond."""


def train(
    paths: StrPath | Iterable[StrPath],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str = GPT2_PATTERN,
    threads: int | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on text files.

    Args:
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a text of its own.
        vocab_size: The number of tokens to stop at: 256 bytes, merges, special tokens. Fewer if no pair is left.
        special_tokens: Strings that separate texts, are never merged and get the last ids.
        pattern: The regular expression of a pre-token; GPT-2's runs in kernels, any other in `regex`.
        threads: How many threads count; None is all cores. The result does not depend on it.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If a file is empty or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    check_vocab_size(vocab_size, special)
    counts = count_pretokens(find_files(paths), special, pattern=pattern, threads=threads, progress=progress)
    return _train(counts, vocab_size, special, pattern, progress)


def train_from_iterator(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str = GPT2_PATTERN,
    threads: int | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on strings, each a document of its own; see `train` for the other arguments.

    Raises:
        TypeError: If `texts` is one string, or something in it is not a string.
        ValueError: If an argument is wrong.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts is one {type(texts).__name__}, expected an iterable of str; write [text]")
    special = check_special_tokens(special_tokens)
    check_vocab_size(vocab_size, special)
    compile_pattern(pattern)
    finder = SpecialTokenFinder(special)
    counts = count_blocks(_document_blocks(texts, finder, pattern), pattern, check_threads(threads), finder=finder)
    return _train(counts, vocab_size, special, pattern, progress)


def train_from_counts(
    counts: Mapping[bytes, int],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on counted pre-tokens; `pattern` is the one they were made with, for encoding later.

    `PretokenCounts` know their pattern; that of other counts is GPT-2's if none is given.

    Raises:
        ValueError: If an argument is wrong, or the counts were made with another pattern.

    Warns:
        UserWarning: If they were made with other special tokens, which is right only where the text has none of those.
    """
    special = check_special_tokens(special_tokens)
    check_vocab_size(vocab_size, special)
    if isinstance(counts, PretokenCounts):
        if pattern not in (None, counts.pattern):
            raise ValueError(f"pattern is {pattern!r}, but the counts were made with {counts.pattern!r}; leave it out")
        if not counts.agrees(special):
            warnings.warn(
                f"special_tokens is {special}, but the counts were made with {list(counts.special_tokens or ())}; if "
                "the text has any of the others, give those of the counts, or count again",
                UserWarning,
                stacklevel=2,
            )
    else:
        counts = PretokenCounts(counts, pattern=GPT2_PATTERN if pattern is None else pattern)
    compile_pattern(counts.pattern)
    return _train(counts, vocab_size, special, counts.pattern, progress)


def check_vocab_size(vocab_size: int, special_tokens: list[str]) -> None:
    """Refuse a vocabulary that does not hold the bytes and the special tokens."""
    least = 256 + len(special_tokens)
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < least:
        raise ValueError(
            f"vocab_size is {vocab_size!r}, expected a whole number of at least {least} "
            f"(256 bytes and {len(special_tokens)} special tokens); make it larger"
        )


def _document_blocks(texts: Iterable[str], finder: SpecialTokenFinder, pattern: str) -> Iterator[Block]:
    """Yield blocks of several short documents, with a boundary after each, or of parts of a long one."""
    parts: list[bytes] = []
    spans: list[Span] = []
    size = 0
    for text in texts:
        data = utf8(text)
        if len(data) > BLOCK_BYTES:
            yield from BlockCutter(finder, pattern).blocks_of(data)
            continue
        spans += [(size + start, size + end, index) for start, end, index in finder.spans(data)]
        size += len(data)
        spans.append((size, size, -1))
        parts.append(data)
        if size >= BLOCK_BYTES:
            yield Block(b"".join(parts), spans)
            parts, spans, size = [], [], 0
    if size:
        yield Block(b"".join(parts), spans)


def learn_merges(
    counts: PretokenCounts, max_merges: int, engine: str = "auto", *, progress: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return at most `max_merges` merges; `engine` is "python", "kernels" or, by the size of the work, "auto".

    Counts so great that those of pairs may not fit into 64 bits are left to Python, however many they are.
    """
    if engine == "auto":
        loaded = "bpe.kernels.tables.words" in sys.modules
        engine = "kernels" if loaded or counts.distinct_bytes > PYTHON_WORD_BYTES else "python"
    if counts.total_bytes >= 2**63:
        engine = "python"
    if engine == "python":
        from bpe.training.merging_in_python import learn_merges as learn_in_python

        return learn_in_python(counts, max_merges)
    # More merges than bytes there cannot be, so that a huge vocab_size does not reserve memory for nothing.
    max_merges = min(max_merges, counts.distinct_bytes)
    with Progress("merging", max_merges, "merges", enabled=progress) as report:
        pairs = _learn_with_kernels(counts, max_merges, report)
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    for left, right in zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def _learn_with_kernels(counts: PretokenCounts, max_merges: int, report: Progress) -> np.ndarray:
    """Return at most `max_merges` merges as pairs of symbols: int32, shape (merges, 2)."""
    from bpe.kernels.merging.learning import merge_more
    from bpe.kernels.merging.learning_state import FINISHED, MERGES, MergeState, first_state
    from bpe.text.block_arrays import read_only

    words, offsets, weights = counts.arrays()
    if len(words) + len(weights) >= _MAX_CELLS:
        raise ValueError(
            f"{len(weights):,} distinct pre-tokens have {len(words):,} bytes, expected together fewer than "
            f"{_MAX_CELLS:,}; use less text, or a pattern of shorter pre-tokens"
        )
    # In another thread, because Ctrl-C must not arrive within Numba, which may not survive it.
    with ThreadPoolExecutor(1, thread_name_prefix="bpe") as pool:
        state = MergeState(*pool.submit(first_state, read_only(words), offsets, weights, max_merges).result())
        learned, at_once = 0, _MERGES_AT_ONCE
        while learned < max_merges and not state.numbers[FINISHED]:
            until = min(learned + at_once, max_merges)
            begin = perf_counter()
            state = MergeState(*pool.submit(merge_more, state, until).result())
            if perf_counter() - begin < _TURN_SECONDS:
                at_once = min(2 * at_once, _MOST_MERGES_AT_ONCE)
            learned = int(state.numbers[MERGES])
            report.update(learned)
    return state.merges[:learned]


def _train(counts: PretokenCounts, vocab_size: int, special: list[str], pattern: str, progress: bool) -> Tokenizer:
    """Learn the merges and lay out the ids: bytes, merges in order, special tokens."""
    merges = learn_merges(counts, vocab_size - 256 - len(special), progress=progress)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in merges]
    tokens += [token.encode("utf-8") for token in special]
    return Tokenizer._of_training(tokens, merges, special, pattern)
