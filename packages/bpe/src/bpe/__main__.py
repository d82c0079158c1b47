"""Command line: python -m bpe train | encode | decode | count | inspect | cluster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from bpe.cli.parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a one-line error message on stderr, or 130 after Ctrl-C."""
    with _imports_finish_before_interrupts():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            _print_error("bpe: interrupted")
            return 130
        finally:
            _discard(sys.stdout)
            _discard(sys.stderr)


def _run(arguments: Sequence[str] | None) -> int:
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
    return 0


@contextmanager
def _imports_finish_before_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait for the end of an import.

    KeyboardInterrupt in the middle of an import can be lost, or leave a lock held that all other threads wait for.
    """
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or try again a little later if `frame` is within an import."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            threading.Timer(0.01, _send_to_main_thread, [number]).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _send_to_main_thread(number: int) -> None:
    """Send a signal that wakes the main thread if it waits, where the system can do that."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


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
