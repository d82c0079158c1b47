"""The clock that a time limit is held against: it starts with the process, not with the first step."""

import os
import time
from pathlib import Path

_IMPORTED = time.perf_counter()


def process_age() -> float:
    """Seconds since this process was started, the interpreter's own start included.

    Where the system does not tell (it has no /proc), the seconds since this module was imported.
    """
    try:
        # Field 22 counts from after the command, which stands in parentheses and may contain anything (proc(5)).
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError):
        return time.perf_counter() - _IMPORTED
