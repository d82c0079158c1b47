"""Durations in the notation 90s, 45m, 1.5h."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", re.ASCII)


def parse_duration(text: str) -> float:
    """Convert a duration such as "1.5h", "45m", "90s" or "3600" into seconds.

    Raises:
        ValueError: If the text is not a number with an optional unit s, m or h, or not above zero.
    """
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"not a duration: {text!r}; expected a number above 0 with s, m or h, like 90s, 45m or 1.5h")
    return seconds


def format_duration(seconds: float) -> str:
    """Format seconds as H:MM:SS, rounded to whole seconds ("1:02:03"; below one hour without hours: "2:03").

    Raises:
        ValueError: If `seconds` is negative or not finite.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not a duration: {seconds!r}; expected a finite number of seconds, 0 or more")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
