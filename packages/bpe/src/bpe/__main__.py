"""Command line: python -m bpe train | encode | decode | count | inspect | cluster."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from bpe.cli.parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a one-line error message on stderr, or 130 after Ctrl-C."""
    _open_closed_streams()
    options = build_parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        # Text of any script is printed, even if standard output is ASCII or a Windows code page.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_not_empty(vars(options))
        # Imported here, so that --help answers sooner.
        from bpe.cli import commands

        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", UserWarning)
            getattr(commands, options.command)(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # A reader such as `head` has read enough, which is not an error.
        return 0
    except (ValueError, TypeError, OSError) as error:
        _print_error(f"bpe: error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        _print_error("bpe: interrupted")
        return 130
    finally:
        _discard(sys.stdout)
        _discard(sys.stderr)
    return 0


def _check_not_empty(options: Mapping[str, Any]) -> None:
    """Refuse an empty string for anything but a text: an unset variable would mean the current folder."""
    for name, value in options.items():
        if name != "text" and (value == "" or (isinstance(value, list) and "" in value)):
            raise ValueError(f"{name} is an empty string; is a variable unset?")


def _open_closed_streams() -> None:
    """Replace standard streams that were closed before the command started by the null device.

    Printed text is lost; files are written all the same.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _discard(stream: TextIO) -> None:
    """Redirect a broken stream to the null device, so that the interpreter does not fail on it again at exit."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print_error(line: str) -> None:
    """Print a line to standard error, if it can be written to."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr)


def _show_warning(message: object, *_: object, **__: object) -> None:
    """Print a warning as one line."""
    _print_error(f"bpe: warning: {message}")


if __name__ == "__main__":
    sys.exit(main())
