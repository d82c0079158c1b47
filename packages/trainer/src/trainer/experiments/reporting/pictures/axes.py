"""Axes of the pictures of sweeps: limits, ticks, and arrows to points outside."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS_LABEL = "final validation loss (nats per token)"


def loss_window(means: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Limits of a loss axis around the best losses; a few distant ones do not flatten the rest."""
    if not means:
        return 0.0, 1.0
    best = min(losses)
    above = sorted(loss - best for loss in means)
    span = max(0.05, 1.6 * above[len(above) * 2 // 3])
    top = min(max(losses) + 0.15 * span, best + span)
    span = top - best
    return best - 0.22 * span, top + 0.15 * span


def arrow_up(axes: "Axes", x: float, high: float, text: str, tint: str, level: int = 0) -> None:
    """Draw an arrow with a text at the upper edge, `high`; neighbours take another `level` to avoid overlap."""
    axes.annotate(
        text,
        xy=(x, high),
        xytext=(0, -22 - 13 * level),
        textcoords="offset points",
        color=tint,
        ha="center",
        va="top",
        fontsize=8.5,
        arrowprops={"arrowstyle": "->", "color": tint},
    )


def plain_ticks(axes: "Axes", rates: Sequence[float | None], *, vertical: bool = False) -> None:
    """Put ticks at the rates that were tried, as many as fit."""
    from matplotlib.ticker import NullLocator

    known = sorted({rate for rate in rates if rate})
    if not known:
        return
    room = math.log(known[-1] / known[0]) / 9 if len(known) > 1 else 0.0
    kept: list[float] = []
    for rate in known:
        if not kept or math.log(rate / kept[-1]) > room:
            kept.append(rate)
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(kept, labels=[f"{rate:g}" for rate in kept])
