"""What is closed at the end of a block, whatever else fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType


@contextmanager
def closing_all(*closers: Callable[[], object]) -> Iterator[None]:
    """Call each of them at the end of the block, in this order, even if others fail.

    The first error stays: that of the block, or of the first one that failed. Later ones are warned about,
    unless they only repeat it.
    """
    with ExitStack() as stack:
        for close in reversed(closers):
            stack.push(_exit(close))
        yield


def _exit(
    close: Callable[[], object],
) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], bool]:
    def leave(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        try:
            close()
        except Exception as failure:
            if error is None:
                raise
            if str(failure) == str(error):  # of the same file, such as one that has no room to be written
                return False
            message = f"besides, something could not be closed: {type(failure).__name__}: {failure}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return False

    return leave
