"""Command line: python -m bpe train | encode | decode | count | inspect."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from bpe.special_tokens import END_OF_TEXT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a one-line message on stderr, or 130 when interrupted."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    # Imported here, so that --help does not wait for it.
    from bpe import commands

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", UserWarning)
            getattr(commands, options.command)(options)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, OSError) as error:
        print(f"bpe: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bpe: interrupted", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: object, *_: object, **__: object) -> None:
    """Print a warning as one line."""
    print(f"bpe: warning: {message}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="bpe", description="Byte-level BPE: train tokenizers, encode and decode text."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a tokenizer on text files")
    _add_text_options(train)
    train.add_argument("--vocab-size", type=int, required=True, help="tokens: 256 bytes, merges, special tokens")
    train.add_argument("--output", required=True, help="directory to write the tokenizer to")
    train.add_argument("--progress", action="store_true", help="report on stderr")

    count = commands.add_parser("count", help="count the pre-tokens of text files")
    _add_text_options(count)
    count.add_argument("--output", help="file (.npz) to keep the counts in")
    count.add_argument("--top", type=int, default=20, help="how many to print (default: 20)")

    encode = commands.add_parser("encode", help="encode a text file to a token file")
    encode.add_argument("text", help="text file: plain, .gz or .zst")
    encode.add_argument("output", help="token file to write: .npy, with a .json beside it")
    encode.add_argument("--tokenizer", required=True, help="directory of the tokenizer")
    encode.add_argument("--threads", type=int, help="threads (default: all cores)")

    decode = commands.add_parser("decode", help="decode a token file to text")
    decode.add_argument("tokens", help="token file: .npy")
    decode.add_argument("--tokenizer", required=True, help="directory of the tokenizer")
    decode.add_argument("--output", help="file to write the text to (default: standard output)")

    inspect = commands.add_parser("inspect", help="describe a tokenizer, or show how it splits a text")
    inspect.add_argument("tokenizer", help="directory of the tokenizer")
    inspect.add_argument("--text", help="a text to split into tokens")
    return parser


def _add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add what the commands that read a corpus have in common."""
    parser.add_argument("paths", nargs="+", help="text files (plain, .gz, .zst) or directories of them")
    parser.add_argument(
        "--special-token",
        action="append",
        metavar="TOKEN",
        help=f"a special token; may be given several times (default: {END_OF_TEXT})",
    )
    parser.add_argument("--no-special-tokens", action="store_true", help="have no special token")
    parser.add_argument("--pattern", help="regular expression of a pre-token (default: GPT-2's)")
    parser.add_argument("--threads", type=int, help="threads (default: all cores)")


if __name__ == "__main__":
    sys.exit(main())
