"""Failures of a command, reported in one line and by the exit code."""

import os
import sys
import warnings
from collections.abc import Callable


def run_command(action: Callable[[], int]) -> int:
    """Run a command, and return the exit code of the process.

    Errors that a user can correct are reported in one line on standard error, and so are warnings; every other
    exception passes through with its traceback. No heavy package is imported.

    Args:
        action: Runs the command and returns its exit code.

    Returns:
        The code from `action`; 2 after wrong input (ValueError, OSError or ImportError), 130 after an interruption
        (KeyboardInterrupt or `trainer.TrainingInterrupted`), 141 if the reader of the output has closed it.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_notice  # type: ignore[assignment]
            for category in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            return action()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError) as error:
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


def _print_notice(message: Warning | str, *_: object) -> None:
    """Print a warning as one line for users, without the location in the code."""
    print(f"notice: {message}", file=sys.stderr)
