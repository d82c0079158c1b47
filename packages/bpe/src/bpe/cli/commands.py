"""The commands of the command line, one function each."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bpe.cli import clusters, inspection
from bpe.cli.checks import check_can_be_saved, pattern, special_tokens
from bpe.encoding import EncodeReport, described_tokenizer
from bpe.files import check_file, check_folder, whole_file
from bpe.formats import directory
from bpe.progress import is_terminal
from bpe.tokenizer import Tokenizer
from bpe.tokenizer_training import train as train_on_files
from bpe.tokenizer_training import train_from_counts
from bpe.training import PretokenCounts, count_pretokens

Result = TypeVar("Result")

_DECODED_AT_ONCE = 1 << 20
_STANDARD, _STANDARD_INPUT = "-", "/dev/stdin"


def _progress(options: argparse.Namespace) -> bool:
    """Return whether to report progress: as the options say, else if standard error is a terminal."""
    return is_terminal(sys.stderr) if options.progress is None else options.progress


def _input(path: str) -> str:
    """Return the path of an input; - is standard input."""
    return _STANDARD_INPUT if path == _STANDARD else path


def _to_standard_output(write: Callable[[Path], Result], name: str) -> Result:
    """Let `write` write a file of this name, and copy it to standard output when it is complete."""
    with TemporaryDirectory(prefix="bpe-") as folder:
        path = Path(folder, name)
        result = write(path)
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return result


def _place(output: str | Path) -> str:
    """Return the name of an output, for reports."""
    return "standard output" if output == _STANDARD else str(output)


def _say(line: str, output: str | None) -> None:
    """Print a line of the report: to standard error if the output is standard output."""
    if output != _STANDARD:
        print(line)
        return
    with suppress(OSError, ValueError):  # a standard error that cannot be written to does not stop the work
        print(line, file=sys.stderr)


def train(options: argparse.Namespace) -> None:
    """Train a tokenizer on texts or on counts, or extend one, and save it."""
    if options.output != _STANDARD:
        check_folder(Path(options.output))
        directory.check_target(options.output)
    tokenizer = _extended(options) if options.extend is not None else _trained(options)
    if options.output == _STANDARD:
        _to_standard_output(tokenizer.save_huggingface, "tokenizer.json")
    else:
        tokenizer.save_pretrained(options.output)
    size = f"{tokenizer.vocab_size:,} tokens ({len(tokenizer.merges):,} merges)"
    _say(f"{size} written to {_place(options.output)}", options.output)


def _counts(options: argparse.Namespace) -> PretokenCounts | None:
    """Return the sum of the counts of the options, or None if they name texts.

    Raises:
        ValueError: If they name both or neither, or an option contradicts counts.
    """
    if not options.from_counts:
        if not options.paths:
            raise ValueError("there is no text to train on; name files or folders, or give --from-counts")
        return None
    if options.paths:
        raise ValueError("texts and --from-counts are both given; omit one of them, or count the texts first")
    for name in ("pattern", "column"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} and --from-counts are both given, but the text is counted; omit --{name}")
    return reduce(add, (PretokenCounts.load(_input(path)) for path in options.from_counts))


def _trained(options: argparse.Namespace) -> Tokenizer:
    """Return a new tokenizer."""
    counts = _counts(options)
    limits = {"min_frequency": options.min_frequency, "max_token_length": options.max_token_length}
    if counts is not None:
        asked = options.special_token or options.no_special_tokens or counts.special_tokens is None
        special = special_tokens(options) if asked else list(counts.special_tokens or ())
        check_can_be_saved(counts.pattern, special)
        return train_from_counts(counts, options.vocab_size, special, progress=_progress(options), **limits)
    special = special_tokens(options)
    check_can_be_saved(pattern(options), special)
    return train_on_files(
        map(_input, options.paths),
        options.vocab_size,
        special,
        pattern=pattern(options),
        column=options.column,
        threads=options.threads,
        progress=_progress(options),
        **limits,
    )


def _extended(options: argparse.Namespace) -> Tokenizer:
    """Return the tokenizer of `--extend` with more merges."""
    for name in ("special_token", "no_special_tokens", "pattern"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} and --extend are both given, but the tokenizer keeps its own; omit {option}")
    tokenizer = Tokenizer.from_pretrained(options.extend)
    counts = _counts(options)
    limits = {"min_frequency": options.min_frequency, "max_token_length": options.max_token_length}
    if counts is not None:
        return tokenizer.extend_from_counts(counts, options.vocab_size, progress=_progress(options), **limits)
    return tokenizer.extend(
        map(_input, options.paths),
        options.vocab_size,
        column=options.column,
        threads=options.threads,
        progress=_progress(options),
        **limits,
    )


def count(options: argparse.Namespace) -> None:
    """Count pre-tokens, print the most frequent, and save all of them if an output is given."""
    if options.output and options.output != _STANDARD:
        check_file(Path(options.output))
    counts = count_pretokens(
        map(_input, options.paths),
        special_tokens(options),
        pattern=pattern(options),
        column=options.column,
        threads=options.threads,
        progress=_progress(options),
    )
    if options.output == _STANDARD:
        _to_standard_output(counts.save, "counts")
    elif options.output:
        counts.save(options.output)
    size = f"{len(counts):,} distinct pre-tokens, {counts.total:,} in all, {counts.total_bytes:,} bytes"
    _say(size, options.output)
    for pretoken, number in counts.most_common(max(options.top, 0)):
        _say(f"{number:>14,}  {pretoken.decode('utf-8', 'replace')!r}", options.output)
    if options.output:
        _say(f"written to {_place(options.output)}", options.output)


def encode(options: argparse.Namespace) -> None:
    """Encode a text file to a token file."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if options.output == _STANDARD and options.format == "megatron":
        raise ValueError("--format megatron writes two files, and standard output is one; name a file")

    def write(path: str | Path) -> EncodeReport:
        return tokenizer.encode_file(
            _input(options.text),
            path,
            options.threads,
            format=options.format,
            documents=options.documents,
            column=options.column,
            progress=_progress(options),
        )

    name = "tokens.bin" if options.format == "llm.c" else "tokens.npy"
    report = _to_standard_output(write, name) if options.output == _STANDARD else write(options.output)
    _say(
        f"{report.tokens:,} tokens of {report.bytes:,} bytes ({report.bytes_per_token:.2f} bytes per token) written to "
        f"{_place(options.output)} as {report.dtype}, "
        f"{report.megabytes_per_second:.1f} MB/s",
        options.output,
    )


def decode(options: argparse.Namespace) -> None:
    """Decode a token file to a file or to standard output, byte for byte."""
    import numpy as np

    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    path = Path(_input(options.tokens))
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    try:
        if options.tokens == _STANDARD:  # a stream cannot be mapped, so it is read as a whole
            ids = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        else:
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        # An error of NumPy for other files advises to load pickles.
        reason = "" if "pickle" in str(error) else f": {error}"
        raise ValueError(f"file {str(path)!r} is not a NumPy array{reason}; name a .npy file of encode") from None
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise ValueError(f"file {str(path)!r} has {ids.dtype} of shape {ids.shape}, expected one row of token ids")
    if described_tokenizer(path) not in (None, tokenizer.sha256):
        raise ValueError(
            f"file {str(path)!r} was encoded by another tokenizer than {options.tokenizer!r}, as the .json beside "
            "it says; give that tokenizer, or move the .json away"
        )
    parts = (tokenizer.decode_bytes(ids[i : i + _DECODED_AT_ONCE]) for i in range(0, len(ids), _DECODED_AT_ONCE))
    if options.output and options.output != _STANDARD:
        with whole_file(Path(options.output)) as file:
            file.writelines(parts)
    else:
        sys.stdout.buffer.writelines(parts)
        sys.stdout.buffer.flush()


def inspect(options: argparse.Namespace) -> None:
    """Describe a tokenizer, its compression of a file, or its split of a text."""
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    if options.text is not None:
        text = options.text
        with suppress(UnicodeError):  # a shell passes on UTF-8, which Python decodes by the locale
            text = os.fsencode(text).decode("utf-8")
        ids = tokenizer.encode_to_numpy(text, options.threads).tolist()
        tokens = [(id_, tokenizer.decode_bytes([id_])) for id_ in ids]
        print(inspection.split_report(tokens, color=_color(options.color)))
    elif options.file is not None:
        if options.documents < 1:
            raise ValueError(f"--documents is {options.documents}, expected at least 1")
        compression = inspection.measure_compression(
            tokenizer, _input(options.file), options.documents, threads=options.threads
        )
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
