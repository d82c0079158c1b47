"""What the commands of the command line do; `bpe.__main__` parses their options."""

from __future__ import annotations

import argparse
import os
import sys
from functools import reduce
from operator import add
from pathlib import Path

from bpe.files import check_file, check_folder, whole_file
from bpe.formats.split_patterns import write_pattern
from bpe.text.patterns import GPT2_PATTERN, compile_pattern
from bpe.text.special_tokens import END_OF_TEXT
from bpe.tokenizer import Tokenizer
from bpe.training.counting import count_pretokens
from bpe.training.counts import PretokenCounts
from bpe.training.train import train as train_on_files
from bpe.training.train import train_from_counts

_DECODED_AT_ONCE = 1 << 20


def _special_tokens(options: argparse.Namespace) -> list[str]:
    """Return the special tokens that the options ask for.

    Raises:
        ValueError: If some are given and none are asked for.
    """
    if options.no_special_tokens:
        if options.special_token:
            raise ValueError("--special-token and --no-special-tokens contradict each other; leave one out")
        return []
    return options.special_token or [END_OF_TEXT]


def _progress(options: argparse.Namespace) -> bool:
    """Say whether to report progress: as asked for, else if somebody is looking."""
    return sys.stderr.isatty() if options.progress is None else options.progress


def _check_can_be_saved(pattern: str) -> None:
    """Refuse, before the work and not after it, a pattern that `save_pretrained` cannot write."""
    compile_pattern(pattern)
    write_pattern(pattern)


def train(options: argparse.Namespace) -> None:
    """Train a tokenizer, on texts or on counts, and save it."""
    check_folder(Path(options.output))
    if options.from_counts:
        if options.paths:
            raise ValueError("texts and --from-counts are both given; leave one out, or count the texts first")
        if options.pattern is not None:
            raise ValueError("--pattern and --from-counts are both given, but counts know their pattern; leave it out")
        counts = reduce(add, map(PretokenCounts.load, options.from_counts))
        _check_can_be_saved(counts.pattern)
        asked = options.special_token or options.no_special_tokens or counts.special_tokens is None
        special = _special_tokens(options) if asked else list(counts.special_tokens or ())
        tokenizer = train_from_counts(counts, options.vocab_size, special, progress=_progress(options))
    elif options.paths:
        pattern = GPT2_PATTERN if options.pattern is None else options.pattern
        _check_can_be_saved(pattern)
        tokenizer = train_on_files(
            options.paths,
            options.vocab_size,
            _special_tokens(options),
            pattern=pattern,
            threads=options.threads,
            progress=_progress(options),
        )
    else:
        raise ValueError("there is no text to train on; name files or folders, or give --from-counts")
    tokenizer.save_pretrained(options.output)
    print(f"{tokenizer.vocab_size:,} tokens ({len(tokenizer.merges):,} merges) written to {options.output}")


def count(options: argparse.Namespace) -> None:
    """Count pre-tokens, print the most frequent, and keep them if asked to."""
    if options.output:
        check_file(Path(options.output))
    counts = count_pretokens(
        options.paths,
        _special_tokens(options),
        pattern=GPT2_PATTERN if options.pattern is None else options.pattern,
        threads=options.threads,
        progress=_progress(options),
    )
    if options.output:
        counts.save(options.output)
    print(f"{len(counts):,} distinct pre-tokens, {counts.total:,} in all, {counts.total_bytes:,} bytes")
    for piece, number in counts.most_common(max(options.top, 0)):
        print(f"{number:>14,}  {piece.decode('utf-8', 'replace')!r}")
    if options.output:
        print(f"written to {options.output}")


def encode(options: argparse.Namespace) -> None:
    """Encode a text file to a token file."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    report = tokenizer.encode_file(options.text, options.output, options.threads, progress=_progress(options))
    print(
        f"{report.tokens:,} tokens of {report.bytes:,} bytes ({report.bytes_per_token:.2f} bytes per token) written to "
        f"{report.path} as {report.dtype}, {report.megabytes_per_second:.1f} MB/s"
    )


def decode(options: argparse.Namespace) -> None:
    """Decode a token file to a file or to standard output, exactly to the byte."""
    import numpy as np

    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if not Path(options.tokens).exists():
        raise FileNotFoundError(f"no file {options.tokens!r}; check the path")
    try:
        ids = np.load(options.tokens, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"file {options.tokens!r} is not a NumPy array: {error}; make it with encode") from None
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise ValueError(f"file {options.tokens!r} has {ids.dtype} of shape {ids.shape}, expected one row of token ids")
    parts = (tokenizer.decode_bytes(ids[i : i + _DECODED_AT_ONCE]) for i in range(0, len(ids), _DECODED_AT_ONCE))
    if options.output:
        with whole_file(Path(options.output)) as file:
            file.writelines(parts)
    else:
        sys.stdout.buffer.writelines(parts)
        sys.stdout.buffer.flush()


def inspect(options: argparse.Namespace) -> None:
    """Print what a tokenizer is, how it compresses a file, or how it splits a text."""
    from bpe.cli import inspection
    from bpe.cli import inspection_report as report

    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if options.text is not None:
        tokens = [(id_, tokenizer.decode_bytes([id_])) for id_ in tokenizer.encode(options.text)]
        print(report.split_report(tokens, color=_color(options.color)))
    elif options.file is not None:
        if options.documents < 1:
            raise ValueError(f"--documents is {options.documents}, expected at least 1")
        compression = inspection.measure_compression(tokenizer, options.file, options.documents)
        print(report.compression_report(tokenizer, compression))
    else:
        print(report.vocabulary_report(tokenizer, inspection.summarize_vocabulary(tokenizer, options.longest)))


def _color(choice: str) -> bool:
    """Say whether to print colours: as asked for, else on a terminal whose user has not said no (no-color.org)."""
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"
