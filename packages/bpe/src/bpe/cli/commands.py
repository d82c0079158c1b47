"""The commands of the command line, one function each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

from bpe.cli import clusters, inspection
from bpe.encoding import described_tokenizer
from bpe.files import check_file, check_folder, whole_file
from bpe.formats import also_ordinary, write_pattern
from bpe.progress import is_terminal
from bpe.text import END_OF_TEXT, GPT2_PATTERN, compile_pattern
from bpe.tokenizer import Tokenizer
from bpe.training import PretokenCounts, count_pretokens, train_from_counts
from bpe.training import train as train_on_files

_DECODED_AT_ONCE = 1 << 20


def _special_tokens(options: argparse.Namespace) -> list[str]:
    """Return the special tokens of the options.

    Raises:
        ValueError: If the options contradict each other.
    """
    if options.no_special_tokens:
        if options.special_token:
            raise ValueError("--special-token and --no-special-tokens contradict each other; omit one of them")
        return []
    return options.special_token or [END_OF_TEXT]


def _progress(options: argparse.Namespace) -> bool:
    """Return whether to report progress: as the options say, else if standard error is a terminal."""
    return is_terminal(sys.stderr) if options.progress is None else options.progress


def _check_can_be_saved(pattern: str, special_tokens: Sequence[str]) -> None:
    """Refuse a pattern or special tokens that `save_pretrained` cannot write before the work starts."""
    compile_pattern(pattern)
    write_pattern(pattern)
    for token in sorted(also_ordinary(special_tokens, ())):
        raise ValueError(f"special token {token!r} is how tokenizer.json writes another byte; rename it")


def train(options: argparse.Namespace) -> None:
    """Train a tokenizer on texts or on counts, and save it."""
    check_folder(Path(options.output))
    if options.from_counts:
        if options.paths:
            raise ValueError("texts and --from-counts are both given; omit one of them, or count the texts first")
        if options.pattern is not None:
            raise ValueError(
                "--pattern and --from-counts are both given, but counts know their pattern; omit --pattern"
            )
        counts = reduce(add, map(PretokenCounts.load, options.from_counts))
        asked = options.special_token or options.no_special_tokens or counts.special_tokens is None
        special = _special_tokens(options) if asked else list(counts.special_tokens or ())
        _check_can_be_saved(counts.pattern, special)
        tokenizer = train_from_counts(counts, options.vocab_size, special, progress=_progress(options))
    elif options.paths:
        pattern = GPT2_PATTERN if options.pattern is None else options.pattern
        special = _special_tokens(options)
        _check_can_be_saved(pattern, special)
        tokenizer = train_on_files(
            options.paths,
            options.vocab_size,
            special,
            pattern=pattern,
            threads=options.threads,
            progress=_progress(options),
        )
    else:
        raise ValueError("there is no text to train on; name files or folders, or give --from-counts")
    tokenizer.save_pretrained(options.output)
    print(f"{tokenizer.vocab_size:,} tokens ({len(tokenizer.merges):,} merges) written to {options.output}")


def count(options: argparse.Namespace) -> None:
    """Count pre-tokens, print the most frequent, and save all of them if an output is given."""
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
    for pretoken, number in counts.most_common(max(options.top, 0)):
        print(f"{number:>14,}  {pretoken.decode('utf-8', 'replace')!r}")
    if options.output:
        print(f"written to {options.output}")


def encode(options: argparse.Namespace) -> None:
    """Encode a text file to a token file."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    report = tokenizer.encode_file(
        options.text,
        options.output,
        options.threads,
        format=options.format,
        documents=options.documents,
        progress=_progress(options),
    )
    print(
        f"{report.tokens:,} tokens of {report.bytes:,} bytes ({report.bytes_per_token:.2f} bytes per token) written to "
        f"{report.path} as {report.dtype}, {report.megabytes_per_second:.1f} MB/s"
    )


def decode(options: argparse.Namespace) -> None:
    """Decode a token file to a file or to standard output, byte for byte."""
    import numpy as np

    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if not Path(options.tokens).exists():
        raise FileNotFoundError(f"no file {options.tokens!r}; check the path")
    try:
        ids = np.load(options.tokens, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"file {options.tokens!r} is not a NumPy array: {error}; create it with encode") from None
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise ValueError(f"file {options.tokens!r} has {ids.dtype} of shape {ids.shape}, expected one row of token ids")
    if described_tokenizer(Path(options.tokens)) not in (None, tokenizer.sha256):
        raise ValueError(
            f"file {options.tokens!r} was encoded by another tokenizer than {options.tokenizer!r}, as the .json beside "
            "it says; give that tokenizer, or move the .json away"
        )
    parts = (tokenizer.decode_bytes(ids[i : i + _DECODED_AT_ONCE]) for i in range(0, len(ids), _DECODED_AT_ONCE))
    if options.output:
        with whole_file(Path(options.output)) as file:
            file.writelines(parts)
    else:
        sys.stdout.buffer.writelines(parts)
        sys.stdout.buffer.flush()


def inspect(options: argparse.Namespace) -> None:
    """Describe a tokenizer, its compression of a file, or its split of a text."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if options.text is not None:
        tokens = [(id_, tokenizer.decode_bytes([id_])) for id_ in tokenizer.encode(options.text)]
        print(inspection.split_report(tokens, color=_color(options.color)))
    elif options.file is not None:
        if options.documents < 1:
            raise ValueError(f"--documents is {options.documents}, expected at least 1")
        compression = inspection.measure_compression(tokenizer, options.file, options.documents)
        print(inspection.compression_report(tokenizer, compression))
    else:
        print(inspection.vocabulary_report(tokenizer, inspection.summarize_vocabulary(tokenizer, options.longest)))


def cluster(options: argparse.Namespace) -> None:
    """Count, train on or encode the shards of a corpus, on one machine or many."""
    clusters.run(options)


def _color(choice: str) -> bool:
    """Return whether to print colours: as the option says, else on a terminal unless NO_COLOR is set (no-color.org)."""
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"
