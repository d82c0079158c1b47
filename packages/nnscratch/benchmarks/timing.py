"""Timing of two alternating functions, so that other load on the machine affects both alike."""

import time
from collections.abc import Callable
from statistics import median

import torch


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, device: str
) -> tuple[float, float]:
    """Return the median seconds of both, after two rounds of warm-up and compilation."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 2):
        for function, times in zip((ours, theirs), seconds, strict=True):
            synchronize(device)
            begin = time.perf_counter()
            function()
            synchronize(device)
            if index >= 2:
                times.append(time.perf_counter() - begin)
    return median(seconds[0]), median(seconds[1])


def print_row(name: str, ours: float, theirs: float, note: str = "") -> None:
    """Print milliseconds and their ratio."""
    print(f"{name:36}{1e3 * ours:10.2f} ms{1e3 * theirs:10.2f} ms{ours / theirs:8.2f}  {note}".rstrip(), flush=True)
