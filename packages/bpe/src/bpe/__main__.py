"""Command line: python -m bpe train | encode | decode | count | inspect."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from bpe.text.special_tokens import END_OF_TEXT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a one-line message on stderr, or 130 when interrupted."""
    _open_closed_streams()
    options = build_parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        # Pieces of any script are printed, also where standard output is ASCII or a Windows code page.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Imported here, so that --help does not wait for it.
    from bpe.cli import commands

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", UserWarning)
            getattr(commands, options.command)(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # A reader like `head` has seen enough, and that is not an error.
        return 0
    except (ValueError, TypeError, OSError) as error:
        _tell(f"bpe: error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        _tell("bpe: interrupted")
        return 130
    finally:
        _discard(sys.stdout)
        _discard(sys.stderr)
    return 0


def _open_closed_streams() -> None:
    """Give a standard stream that whoever started the command has closed a place to write to: nowhere.

    What is printed is lost, what is written to files is not.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere, or the interpreter would fail on it again while it exits."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(line: str) -> None:
    """Print a line to standard error; where nobody can read it, the work is not the worse for it."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr)


def _show_warning(message: object, *_: object, **__: object) -> None:
    """Print a warning as one line."""
    _tell(f"bpe: warning: {message}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="bpe", description="Byte-level BPE: train tokenizers, encode and decode text."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a tokenizer on text files, or on counts")
    _add_text_options(train, "*")
    train.add_argument("--from-counts", nargs="+", metavar="COUNTS", help="files that `count` wrote, added up")
    train.add_argument("--vocab-size", type=int, required=True, help="tokens: 256 bytes, merges, special tokens")
    train.add_argument("-o", "--output", required=True, help="directory to write the tokenizer to")

    count = commands.add_parser("count", help="count the pre-tokens of text files")
    _add_text_options(count, "+")
    count.add_argument("-o", "--output", help="file to keep the counts in, for `train --from-counts`")
    count.add_argument("--top", type=int, default=20, help="how many to print (default: 20)")

    encode = commands.add_parser("encode", help="encode a text file to a token file")
    encode.add_argument("text", help="text file: plain, .gz or .zst")
    encode.add_argument("output", help="token file to write: .npy, with a .json beside it")
    encode.add_argument("-t", "--tokenizer", required=True, help="directory of the tokenizer")
    encode.add_argument("--threads", type=int, help="threads (default: all cores)")
    _add_progress(encode)

    decode = commands.add_parser("decode", help="decode a token file to text")
    decode.add_argument("tokens", help="token file: .npy")
    decode.add_argument("-t", "--tokenizer", required=True, help="directory of the tokenizer")
    decode.add_argument("-o", "--output", help="file to write the text to (default: standard output)")

    inspect = commands.add_parser(
        "inspect", help="describe a tokenizer, how it compresses a file, or how it splits a text"
    )
    inspect.add_argument("tokenizer", help="directory of the tokenizer")
    what = inspect.add_mutually_exclusive_group()
    what.add_argument("--text", help="a text to split into tokens")
    what.add_argument("--file", help=f"a text file whose documents, with {END_OF_TEXT} between them, are compressed")
    inspect.add_argument("--documents", type=int, default=1000, help="documents of the file to read (default: 1000)")
    inspect.add_argument("--longest", type=int, default=20, help="longest tokens to print (default: 20)")
    inspect.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colours (default: on a terminal)"
    )
    return parser


def _add_text_options(parser: argparse.ArgumentParser, number: str) -> None:
    """Add what the commands that read a corpus have in common; `number` is of paths, as argparse writes it."""
    parser.add_argument("paths", nargs=number, help="text files (plain, .gz, .zst) or directories of them")
    parser.add_argument(
        "--special-token",
        action="append",
        metavar="TOKEN",
        help=f"a special token; may be given several times (default: those of counts, else {END_OF_TEXT})",
    )
    parser.add_argument("--no-special-tokens", action="store_true", help="have no special token")
    parser.add_argument("--pattern", help="regular expression of a pre-token (default: GPT-2's)")
    parser.add_argument("--threads", type=int, help="threads (default: all cores)")
    _add_progress(parser)


def _add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the options about the progress report."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="report on stderr, or do not (default: on a terminal)",
    )


if __name__ == "__main__":
    sys.exit(main())
