"""What command lines have in common: how failures are told, and with which exit code."""

import os
import sys
import warnings
from collections.abc import Callable


def run_command(action: Callable[[], int]) -> int:
    """Do what a command does, and return the exit code of the process.

    What a user can mend is told in one line on standard error, and so are warnings; every other exception passes
    through with its traceback. Nothing heavy is imported for it.

    Args:
        action: returns the exit code of a command that has come to its end.

    Returns:
        What `action` returns; 2 after wrong input (ValueError, OSError or ImportError), 130 after an interruption
        (KeyboardInterrupt or `trainer.TrainingInterrupted`), 141 if nobody reads the output any more.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_notice  # type: ignore[assignment]
            for category in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            return action()
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__name__ != "TrainingInterrupted":  # by name, because importing it would import torch
            raise
        print(error, file=sys.stderr)
        return 130


def _print_notice(message: Warning | str, *_: object) -> None:
    """Warnings are for users here: one line, without the place in the code."""
    print(f"notice: {message}", file=sys.stderr)
