"""Training of tokenizers: on files, on strings, and on counted pre-tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from bpe.text import END_OF_TEXT, GPT2_PATTERN, Pattern, StrPath, check_pattern, check_special_tokens
from bpe.tokenizer import Tokenizer
from bpe.training import Limits, PretokenCounts, check_vocab_size, count_pretokens, count_texts, new_vocabulary


def train(
    paths: StrPath | Iterable[StrPath],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: Pattern = GPT2_PATTERN,
    min_frequency: int = 1,
    max_token_length: int | None = None,
    column: str | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on text files.

    Args:
        paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a separate text.
        vocab_size: The number of tokens to reach: 256 bytes, merges, special tokens.
        special_tokens: Strings that separate texts, are never merged and get the last ids.
        pattern: The regular expression of a pre-token, or several in a tuple, each of which splits further what the one
            before has left. Published ones run in kernels, any other in `regex`.
        min_frequency: Pairs of tokens that occur less often are not merged.
        max_token_length: Pairs that have more bytes together are not merged; None sets no limit.
        column: The column of the texts if the files are tables: Parquet if they are named .parquet (needs pyarrow),
            else JSON lines (plain, .gz, .zst). Each row is a separate text.
        threads: The number of threads that count; None uses all cores. The result does not depend on it.
        progress: Whether to report on stderr.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If there is no text, or an argument is wrong.

    Warns:
        VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    limits = Limits.checked(min_frequency, max_token_length)
    counts = count_pretokens(paths, special, pattern=pattern, column=column, threads=threads, progress=progress)
    return Tokenizer.from_spec(new_vocabulary(counts, vocab_size, special, limits, progress=progress))


def train_from_iterator(
    texts: Iterable[Any],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: Pattern = GPT2_PATTERN,
    min_frequency: int = 1,
    max_token_length: int | None = None,
    column: str | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on strings, each a separate document; `train` describes the other arguments.

    The items of `texts` are strings or lists of strings. With `column` they are mappings that have a string or a list
    of strings under this name: rows or batches of a data set.

    Raises:
        TypeError: If `texts` is a single string, or an item is of another type.
        ValueError: If there is no text, a row has no such column, or an argument is wrong.

    Warns:
        VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    limits = Limits.checked(min_frequency, max_token_length)
    counts = count_texts(texts, special, check_pattern(pattern), column=column, threads=threads, progress=progress)
    return Tokenizer.from_spec(new_vocabulary(counts, vocab_size, special, limits, progress=progress))


def train_from_counts(
    counts: Mapping[bytes, int],
    vocab_size: int,
    special_tokens: Iterable[str] | None = (END_OF_TEXT,),
    *,
    pattern: Pattern | None = None,
    min_frequency: int = 1,
    max_token_length: int | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer on counted pre-tokens.

    `pattern` is the pattern that split the text, which encoding needs later. `PretokenCounts` know their pattern; for
    other counts the default is GPT-2's. `train` describes the other arguments.

    Raises:
        ValueError: If an argument is wrong, there are no counts, or they were made with another pattern.

    Warns:
        UserWarning: If the counts were made with other special tokens. The result is right only if the text contains
            none of the tokens that differ.
        VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    limits = Limits.checked(min_frequency, max_token_length)
    if isinstance(counts, PretokenCounts):
        if pattern is not None and check_pattern(pattern) != counts.pattern:
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
    check_pattern(counts.pattern)
    return Tokenizer.from_spec(new_vocabulary(counts, vocab_size, special, limits, progress=progress))
