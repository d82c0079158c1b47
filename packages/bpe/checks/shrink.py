"""Reduction of a failing text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Text = TypeVar("Text", bound=Sequence[object])


def shortest(text: Text, fails: Callable[[Text], bool], trials: int = 5000) -> Text:
    """Return a part of `text`, a string or a list, that still fails and from which nothing can be removed.

    Ever smaller parts are removed, as in Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing
    Input". After `trials` attempts the shortest text so far is returned.
    """
    size = len(text)
    while size and trials:
        size = max(1, size // 2)
        start = 0
        removed = False
        while start < len(text) and trials:
            trials -= 1
            shorter = text[:start] + text[start + size :]  # type: ignore[operator]
            if fails(shorter):
                text = shorter
                removed = True
            else:
                start += size
        if size == 1 and not removed:
            break
    return text
