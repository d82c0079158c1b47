"""The end of the process, without the one to two seconds in which the interpreter takes torch apart."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

_EXIT_CODES: list[int] = []


def leave(exit_code: int) -> NoReturn:
    """End this process as `sys.exit` does: threads are waited for and exit functions called; only then it ends at once.

    To be imported before everything that has exit functions of its own, for they are called in reverse order.
    """
    _EXIT_CODES.append(exit_code)
    sys.exit(exit_code)


def _end_at_once() -> None:
    if not _EXIT_CODES:  # the process ends in another way, with a traceback or in a test
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(_EXIT_CODES[-1])


atexit.register(_end_at_once)
