"""Training: from text to merges to a tokenizer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping

from bpe.patterns import GPT2_PATTERN, compile_pattern
from bpe.pretokens import PretokenCounts, count_blocks, count_pretokens
from bpe.special_tokens import END_OF_TEXT, Span, SpecialTokenFinder, check_special_tokens
from bpe.texts import BLOCK_BYTES, Block, BlockCutter, StrPath, find_files, split_characters, utf8
from bpe.threads import check_threads
from bpe.tokenizer import Tokenizer

PYTHON_WORD_BYTES = 1 << 18
"""Up to so many bytes of distinct words are merged in Python: loading the kernels would take longer than the work."""

_MAX_POSITIONS = 2**31 - 1


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
    counts = count_blocks(_document_blocks(texts, finder, pattern), pattern, check_threads(threads))
    return _train(counts, vocab_size, special, pattern, progress)


def train_from_counts(
    counts: Mapping[bytes, int],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: str = GPT2_PATTERN,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on counted pre-tokens; `pattern` is the one they were made with, for encoding later.

    Raises:
        ValueError: If an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    check_vocab_size(vocab_size, special)
    compile_pattern(pattern)
    checked = counts if isinstance(counts, PretokenCounts) else PretokenCounts(counts)
    return _train(checked, vocab_size, special, pattern, progress)


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
            chunks = split_characters(data, BLOCK_BYTES)
            yield from BlockCutter(finder, pattern).blocks(chunks)
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


def learn_merges(counts: PretokenCounts, max_merges: int, engine: str = "auto") -> list[tuple[bytes, bytes]]:
    """Return at most `max_merges` merges; `engine` is "python", "kernels" or, by the size of the work, "auto"."""
    if engine == "auto":
        engine = "python" if sum(map(len, counts)) <= PYTHON_WORD_BYTES else "kernels"
    if engine == "python":
        from bpe.incremental_merging import learn_merges as learn_in_python

        return learn_in_python(counts, max_merges)
    from bpe.kernels.merging import learn_merges as learn_with_kernels

    words, offsets, weights = counts.arrays()
    if len(words) > _MAX_POSITIONS:
        raise ValueError(
            f"distinct pre-tokens have {len(words):,} bytes, expected at most {_MAX_POSITIONS:,}; use less text"
        )
    # More merges than bytes there cannot be, so that a huge vocab_size does not reserve memory for nothing.
    pairs = learn_with_kernels(words, offsets, weights, min(max_merges, len(words)))
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    for left, right in pairs.tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def _train(counts: PretokenCounts, vocab_size: int, special: list[str], pattern: str, progress: bool) -> Tokenizer:
    """Learn the merges and lay out the ids: bytes, merges in order, special tokens."""
    if progress:
        print(f"merging: {len(counts):,} distinct pre-tokens", file=sys.stderr, flush=True)
    merges = learn_merges(counts, vocab_size - 256 - len(special))
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in merges]
    tokens += [token.encode("utf-8") for token in special]
    return Tokenizer(dict(enumerate(tokens)), merges, special, pattern=pattern)
