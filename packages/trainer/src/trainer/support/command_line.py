"""Failures of a command, reported in one line and by the exit code."""

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable

from trainer.support.files import IS_WINDOWS


def run_command(action: Callable[[], int]) -> int:
    """Run a command, and return the exit code of the process.

    Errors that a user can correct are reported in one line on standard error, and so are warnings; every other
    exception passes through with its traceback. Characters that the standard output cannot encode, as happens in files
    and pipes on Windows, are printed as escapes. No heavy package is imported.

    Args:
        action: Runs the command and returns its exit code.

    Returns:
        The code from `action`; 2 after wrong input (ValueError, OSError or ImportError), 130 after an interruption
        (KeyboardInterrupt or `trainer.TrainingInterrupted`), 141 if the reader of the output has closed it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_notice  # type: ignore[assignment]
            for category in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            return action()
    except (ValueError, OSError, ImportError) as error:
        if _has_lost_its_reader(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to resume", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__name__ != "TrainingInterrupted":  # by name, because importing it would import torch
            raise
        print(error, file=sys.stderr)
        return 130


def print_once(line: str) -> None:
    """Print a line, of several processes under `torchrun` only in that of rank 0."""
    if os.environ.get("RANK", "0") == "0":
        print(line)


def _has_lost_its_reader(error: Exception) -> bool:
    """Return whether the reader of the output has closed it, which Windows reports as an invalid argument."""
    is_invalid = isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or (IS_WINDOWS and is_invalid)


def _print_notice(message: Warning | str, *_: object) -> None:
    """Print a warning as one line for users, without the location in the code."""
    print(f"notice: {message}", file=sys.stderr)
