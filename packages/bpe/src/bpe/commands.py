"""What the commands of the command line do; `bpe.__main__` parses their options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bpe.files import whole_file
from bpe.patterns import GPT2_PATTERN
from bpe.pretokens import count_pretokens
from bpe.special_tokens import END_OF_TEXT
from bpe.tokenizer import Tokenizer
from bpe.training import train as train_tokenizer

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


def train(options: argparse.Namespace) -> None:
    """Train a tokenizer and save it."""
    tokenizer = train_tokenizer(
        options.paths,
        options.vocab_size,
        _special_tokens(options),
        pattern=GPT2_PATTERN if options.pattern is None else options.pattern,
        threads=options.threads,
        progress=options.progress,
    )
    tokenizer.save_pretrained(options.output)
    print(f"{tokenizer.vocab_size:,} tokens ({len(tokenizer.merges):,} merges) written to {options.output}")


def count(options: argparse.Namespace) -> None:
    """Count pre-tokens, print the most frequent, and keep them if asked to."""
    counts = count_pretokens(
        options.paths,
        _special_tokens(options),
        pattern=GPT2_PATTERN if options.pattern is None else options.pattern,
        threads=options.threads,
    )
    if options.output:
        counts.save(options.output)
    print(f"{len(counts):,} distinct pre-tokens, {counts.total:,} in all, {counts.total_bytes:,} bytes")
    for piece, number in counts.most_common(max(options.top, 0)):
        print(f"{number:>14,}  {piece.decode('utf-8', 'replace')!r}")


def encode(options: argparse.Namespace) -> None:
    """Encode a text file to a token file."""
    report = Tokenizer.from_pretrained(options.tokenizer).encode_file(options.text, options.output, options.threads)
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
    """Print what a tokenizer is, or the tokens of a text."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if options.text is not None:
        for id_ in tokenizer.encode(options.text):
            print(f"{id_:>8}  {tokenizer.decode_bytes([id_])!r}")
        return
    longest = sorted(tokenizer.vocab.values(), key=lambda token: (-len(token), token))[:5]
    print(f"vocabulary      {tokenizer.vocab_size:,}")
    print(f"merges          {len(tokenizer.merges):,}")
    print(f"special tokens  {' '.join(tokenizer.special_tokens) or 'none'}")
    print(f"pattern         {tokenizer.pattern}")
    print(f"longest tokens  {', '.join(map(repr, longest))}")
    print(f"sha256          {tokenizer.sha256}")
