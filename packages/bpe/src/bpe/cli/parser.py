"""Options of the command line."""

from __future__ import annotations

import argparse
from typing import Any

from bpe.cli.clusters import add_parts, add_token_file
from bpe.text import END_OF_TEXT

_EPILOG = "In place of a file, - is standard input or standard output; ./- is a file of this name."


class _Version(argparse.Action):
    """Print the version and exit; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from bpe.preparation import package_version

        print(f"bpe {package_version()}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="bpe", description="Byte-level BPE: train tokenizers, encode and decode text.", epilog=_EPILOG
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a tokenizer on text files, or on counts", epilog=_EPILOG)
    _add_text_options(train, "*")
    train.add_argument(
        "--from-counts", nargs="+", metavar="COUNTS", help="train on the sum of these files, written by `count`"
    )
    train.add_argument(
        "--vocab-size", type=int, required=True, help="number of tokens: 256 bytes, merges, special tokens"
    )
    train.add_argument(
        "--extend",
        metavar="TOKENIZER",
        help="directory of a tokenizer to extend: its ids, special tokens and pattern stay, and more merges are added",
    )
    train.add_argument(
        "--min-frequency", type=int, default=1, help="pairs that occur less often are not merged (default: 1)"
    )
    train.add_argument("--max-token-length", type=int, help="the most bytes of a merged token (default: no limit)")
    train.add_argument(
        "-o", "--output", required=True, help="directory to write the tokenizer to; - prints its tokenizer.json"
    )

    count = commands.add_parser("count", help="count the pre-tokens of text files", epilog=_EPILOG)
    _add_text_options(count, "+")
    count.add_argument("-o", "--output", help="file to write the counts to, for `train --from-counts`")
    count.add_argument("--top", type=int, default=20, help="number of pre-tokens to print (default: 20)")

    encode = commands.add_parser("encode", help="encode a text file to a token file", epilog=_EPILOG)
    encode.add_argument("text", help="text file: plain, .gz or .zst")
    encode.add_argument(
        "output", help="token file to write: .npy, .bin (llm.c) or .idx (Megatron, with a .bin); a .json describes it"
    )
    encode.add_argument("-t", "--tokenizer", required=True, help="directory of the tokenizer")
    encode.add_argument("--column", help="column of the texts if the file has rows: JSON lines or Parquet")
    add_token_file(encode)
    _add_threads(encode)
    _add_progress(encode)

    decode = commands.add_parser("decode", help="decode a token file to text", epilog=_EPILOG)
    decode.add_argument("tokens", help="token file: .npy")
    decode.add_argument("-t", "--tokenizer", required=True, help="directory of the tokenizer")
    decode.add_argument("-o", "--output", help="file to write the text to (default: standard output)")

    inspect = commands.add_parser(
        "inspect", help="describe a tokenizer, its compression of a file, or its split of a text"
    )
    inspect.add_argument("tokenizer", help="directory of the tokenizer")
    subject = inspect.add_mutually_exclusive_group()
    subject.add_argument("--text", help="a text to split into tokens")
    subject.add_argument("--file", help=f"a text file of documents separated by {END_OF_TEXT}, to measure compression")
    inspect.add_argument("--documents", type=int, default=1000, help="number of documents to read (default: 1000)")
    inspect.add_argument("--longest", type=int, default=20, help="number of longest tokens to print (default: 20)")
    inspect.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colours (default: on a terminal)"
    )
    _add_threads(inspect)

    cluster = commands.add_parser("cluster", help="count and encode a corpus on many machines, with datatrove")
    add_parts(cluster)
    return parser


def _add_text_options(parser: argparse.ArgumentParser, number: str) -> None:
    """Add the options of commands that read a corpus; `number` is the number of paths in the notation of argparse."""
    parser.add_argument("paths", nargs=number, help="text files (plain, .gz, .zst) or directories of them")
    parser.add_argument(
        "--special-token",
        action="append",
        metavar="TOKEN",
        help=f"a special token; may be repeated (default: those of the counts, else {END_OF_TEXT})",
    )
    parser.add_argument("--no-special-tokens", action="store_true", help="use no special tokens")
    parser.add_argument(
        "--pattern",
        action="append",
        help="regular expression of a pre-token (default: GPT-2's); the next of several splits further what is left",
    )
    parser.add_argument(
        "--column", help="the column of the texts, if the files are tables: JSON lines, or Parquet in .parquet"
    )
    _add_threads(parser)
    _add_progress(parser)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the limit of threads."""
    parser.add_argument("--threads", type=int, help="number of threads (default: all cores)")


def _add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the options of the progress report."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="report progress on stderr (default: on a terminal)",
    )
