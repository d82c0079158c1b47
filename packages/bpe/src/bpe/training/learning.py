"""Training of a tokenizer: from text to counts to merges."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from bpe import kernels
from bpe.arguments import whole_number
from bpe.progress import Progress
from bpe.text import (
    BLOCK_BYTES,
    END_OF_TEXT,
    GPT2_PATTERN,
    Block,
    BlockCutter,
    SpecialTokenFinder,
    StrPath,
    check_special_tokens,
    compile_pattern,
    utf8,
)
from bpe.threads import check_threads
from bpe.tokenizer import Tokenizer
from bpe.training.counting import count_blocks, count_pretokens
from bpe.training.counts import PretokenCounts
from bpe.training.merging_in_python import learn_merges_in_python
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

_MAX_CELLS = 2**31 - 1
_MERGES_PER_CALL, _MOST_MERGES_PER_CALL = 256, 1 << 14
"""After so many merges the kernel returns to the interpreter, for Ctrl-C and the progress report."""
_CALL_SECONDS = 0.05
"""Calls shorter than this are doubled, because each costs a tenth of a millisecond."""


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
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a separate text.
        vocab_size: The number of tokens to reach: 256 bytes, merges, special tokens. Fewer if no pair is left.
        special_tokens: Strings that separate texts, are never merged and get the last ids.
        pattern: The regular expression of a pre-token. GPT-2's and cl100k's run in kernels, others in `regex`.
        threads: The number of threads that count; None uses all cores. The result does not depend on it.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If a file is empty or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    counts = count_pretokens(paths, special, pattern=pattern, threads=threads, progress=progress)
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
    """Train a tokenizer on strings, each a separate document; `train` describes the other arguments.

    Raises:
        TypeError: If `texts` is a single string, or an item is not a string.
        ValueError: If an argument is wrong.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts is one {type(texts).__name__}, expected an iterable of str; write [text]")
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    compile_pattern(pattern)
    finder = SpecialTokenFinder(special)
    texts_in_blocks = BlockCutter(finder, pattern).blocks_of_texts(map(Block, map(utf8, texts)), BLOCK_BYTES)
    counts = count_blocks((block for block, _ in texts_in_blocks), finder, pattern, check_threads(threads))
    return _train(counts, vocab_size, special, pattern, progress)


def train_from_counts(
    counts: Mapping[bytes, int],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on counted pre-tokens.

    `pattern` is the pattern that split the text, which encoding needs later. `PretokenCounts` know their pattern; for
    other counts the default is GPT-2's.

    Raises:
        ValueError: If an argument is wrong, or the counts were made with another pattern.

    Warns:
        UserWarning: If the counts were made with other special tokens. The result is right only if the text contains
            none of the tokens that differ.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    if isinstance(counts, PretokenCounts):
        if pattern not in (None, counts.pattern):
            raise ValueError(f"pattern is {pattern!r}, but the counts were made with {counts.pattern!r}; leave it out")
        if not counts.agrees(special):
            warnings.warn(
                f"special_tokens is {special}, but the counts were made with {list(counts.special_tokens or ())}; if "
                "the text has any of the tokens that differ, give those of the counts, or count again",
                UserWarning,
                stacklevel=2,
            )
    else:
        counts = PretokenCounts(counts, pattern=GPT2_PATTERN if pattern is None else pattern)
    compile_pattern(counts.pattern)
    return _train(counts, vocab_size, special, counts.pattern, progress)


def check_vocab_size(vocab_size: int, special_tokens: list[str]) -> int:
    """Return the vocabulary size as an int; refuse one that is too small for the bytes and the special tokens."""
    least = 256 + len(special_tokens)
    number = whole_number(vocab_size)
    if number is None or number < least:
        raise ValueError(
            f"vocab_size is {vocab_size!r}, expected a whole number of at least {least} "
            f"(256 bytes and {len(special_tokens)} special tokens); make it larger"
        )
    return number


def learn_merges(counts: PretokenCounts, max_merges: int, *, progress: bool = False) -> list[tuple[bytes, bytes]]:
    """Return at most `max_merges` merges, learned in Python or by the kernels, whichever suits the size.

    Counts so large that the counts of pairs may exceed 64 bits are left to Python.
    """
    small = counts.distinct_bytes <= kernels.LEARNING_BYTES and not kernels.learning_loaded()
    if small or counts.total_bytes >= 2**63:
        return learn_merges_in_python(counts, max_merges)
    return learn_merges_with_kernels(counts, max_merges, progress=progress)


def learn_merges_with_kernels(
    counts: PretokenCounts, max_merges: int, *, progress: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return at most `max_merges` merges; the counts of pairs must fit into 64 bits."""
    # There cannot be more merges than bytes; a huge vocab_size must not allocate memory for nothing.
    max_merges = min(max_merges, counts.distinct_bytes)
    with Progress("merging", max_merges, "merges", enabled=progress) as report:
        pairs = _learn_pairs(counts, max_merges, report)
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    for left, right in zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def _learn_pairs(counts: PretokenCounts, max_merges: int, report: Progress) -> np.ndarray:
    """Return at most `max_merges` merges as pairs of symbols: int32, shape (merges, 2)."""
    from bpe.kernels.machine.arrays import read_only
    from bpe.kernels.machine.compiling import structure
    from bpe.kernels.merging.learning import merge_more
    from bpe.kernels.merging.learning_state import FINISHED, MERGES, first_state, with_space

    pretokens, offsets, weights = counts.arrays()
    if len(pretokens) + len(weights) >= _MAX_CELLS:
        raise ValueError(
            f"{len(weights):,} distinct pre-tokens have {len(pretokens):,} bytes, expected together fewer than "
            f"{_MAX_CELLS:,}; use less text, or a pattern of shorter pre-tokens"
        )
    # In another thread, because Ctrl-C must not arrive inside Numba, which may not survive it.
    with ThreadPoolExecutor(1, thread_name_prefix="bpe") as pool:
        state = pool.submit(first_state, read_only(pretokens), offsets, weights, max_merges).result()
        argument = structure(state)
        learned, per_call = 0, _MERGES_PER_CALL
        while learned < max_merges and not state.numbers[FINISHED]:
            until = min(learned + per_call, max_merges)
            begin = perf_counter()
            while not pool.submit(merge_more, argument, until).result():
                state = pool.submit(with_space, state).result()
                argument = structure(state)
            if perf_counter() - begin < _CALL_SECONDS:
                per_call = min(2 * per_call, _MOST_MERGES_PER_CALL)
            learned = int(state.numbers[MERGES])
            report.update(learned)
    return state.merges[:learned]


def _train(counts: PretokenCounts, vocab_size: int, special: list[str], pattern: str, progress: bool) -> Tokenizer:
    """Learn the merges and assign the ids: bytes, merges in order, special tokens."""
    merges = learn_merges(counts, vocab_size - 256 - len(special), progress=progress)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in merges]
    tokens += [token.encode("utf-8") for token in special]
    return Tokenizer.from_spec(TokenizerSpec(dict(enumerate(tokens)), merges, special, pattern))
