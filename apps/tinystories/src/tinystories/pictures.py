"""Learning curves of several runs in one picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Distinct in print and for most colour-blind readers (after Okabe and Ito, 2008).
COLOURS = ["#000000", "#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#999999"]
HEADROOM = 0.25  # of the range between the best loss and the losses early in the runs


def draw_curves(results: Sequence[Result], path: Path) -> None:
    """Draw every run's validation loss against steps and against seconds.

    The window shows the part in which the runs differ. A run that ends above it is not cut away in silence: an arrow at
    the upper edge tells its last loss. A run that diverged has a dashed line that ends in a cross, and says so.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    by_step, by_second = figure.subplots(1, 2, sharey=True)
    low, high = _window(results)
    for number, result in enumerate(results):
        colour = COLOURS[number % len(COLOURS)]
        _draw(by_step, result, result.valid.steps, colour, high)
        _draw(by_second, result, result.valid.seconds, colour, high)
    for axes, unit in ((by_step, "optimizer steps"), (by_second, "seconds since the start of the run")):
        axes.set_ylim(low, high)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    by_step.set_ylabel("validation loss (nats per token)")
    figure.legend(*by_step.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Validation loss of every variant")
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=130, format="png")
    temporary.replace(path)


def _finite(losses: Sequence[float | None]) -> list[float]:
    return [loss for loss in losses if loss is not None and math.isfinite(loss)]


def _window(results: Sequence[Result]) -> tuple[float, float]:
    """Limits of the loss axis: from below the best loss to above where the runs are after a quarter of their steps."""
    best = min((min(_finite(result.valid.losses), default=math.inf) for result in results), default=math.inf)
    if not math.isfinite(best):
        return 0.0, 1.0
    early = []
    for result in results:
        finite = _finite(result.valid.losses)
        if not result.summary["diverged"] and finite:
            early.append(finite[min(len(finite) - 1, max(1, len(finite) // 4))])
    top = max(early, default=best + 1.0)
    span = max(top - best, 0.1)
    return best - 0.08 * span, top + HEADROOM * span


def _draw(axes: "Axes", result: Result, positions: Sequence[float], colour: str, high: float) -> None:
    points = [(x, y) for x, y in zip(positions, result.valid.losses, strict=True) if y is not None]
    diverged = result.divergence != "no"
    label = f"{result.name}: {result.what}" + (f" (diverged, {result.divergence[5:]})" if diverged else "")
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=colour,
        label=label,
        marker="o",
        markersize=3.5,
        linewidth=1.6,
        linestyle="--" if diverged else "-",
    )
    # Every run enters from above; only one that ends up there has left the window.
    if points and points[-1][1] > high:
        x, y = points[-1]
        axes.annotate(
            f"{y:.2f}",
            xy=(x, high),
            xytext=(0, -16),
            textcoords="offset points",
            color=colour,
            ha="center",
            fontsize=8,
            arrowprops={"arrowstyle": "->", "color": colour},
        )
    elif diverged and points:
        axes.plot(*points[-1], marker="x", markersize=9, markeredgewidth=2, color=colour)
