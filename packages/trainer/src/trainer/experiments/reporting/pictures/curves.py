"""Learning curves of several groups in one picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.experiments.reporting.numbers import mean, short_count, short_loss
from trainer.experiments.reporting.pictures.axes import arrow_up
from trainer.experiments.reporting.pictures.style import (
    LIGHT,
    SIZE,
    Drawing,
    Theme,
    colour,
    gradient,
    label_ends,
    marker,
)
from trainer.experiments.results import BASELINE, Group, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADROOM = 0.25  # of the range between the best loss and the losses early in the runs
CROSS = "✗"
MOST_IN_ONE = 5  # curves whose labels stay in their order without crossing lines
COLUMNS, PANEL_HEIGHT = 3, 1.35  # panels beside each other; inches
Measure = Literal["losses", "bits"]
Axis = Literal["steps", "tokens", "seconds"]
MEASURE_LABELS: dict[Measure, str] = {
    "losses": "validation loss (nats per token)",
    "bits": "validation loss (bits per byte)",
}
AXIS_LABELS: dict[Axis, str] = {
    "steps": "optimizer steps",
    "tokens": "training tokens",
    "seconds": "seconds of training",
}


@dataclass(frozen=True)
class Line:
    """Mean and range of a group's runs at each evaluation."""

    places: list[float]
    means: list[float]
    lows: list[float]
    highs: list[float]


def learning_curves(groups: Sequence[Group], axis: Axis, reference: str = BASELINE) -> Drawing:
    """Draw the validation loss of every group: the mean of its runs, in a band from the lowest to the highest.

    The window shows the range in which the groups differ. For a curve that ends above it, an arrow at the upper edge
    gives the last loss. A run that diverged has a dashed line of its own that ends in a cross. The line of the group
    named `reference` is thicker. More than `MOST_IN_ONE` groups have a panel each, beside the reference.
    """

    def draw(figure: "Figure", theme: Theme) -> None:
        measure = comparable(groups)
        limits = window(groups, measure)
        if len(groups) > MOST_IN_ONE:
            _draw_panels(figure, theme, groups, axis, measure, limits, reference)
            return
        axes = figure.subplots()
        ends: list[tuple[float, float, str, str]] = []
        left: list[tuple[float, float, str]] = []
        for number, group in enumerate(groups):
            tint = _tint(groups, number, theme, reference)
            is_reference = group.name == reference
            end, above = _draw_group(axes, group, axis, measure, tint, limits[1], marker(number), is_reference)
            left += above
            if end is not None:
                ends.append((*end, _name(group), tint))
        _finish(axes, limits)
        axes.set_xlabel(AXIS_LABELS[axis])
        axes.set_ylabel(MEASURE_LABELS[measure])
        _mark_ends_above(axes, left, limits[1])
        label_ends(axes, ends)

    return draw


def _draw_panels(
    figure: "Figure",
    theme: Theme,
    groups: Sequence[Group],
    axis: Axis,
    measure: Measure,
    limits: tuple[float, float],
    reference: str,
) -> None:
    """Draw one panel for each group but the reference, which is drawn in all of them."""
    known = [group for group in groups if group.name == reference]
    others = [group for group in groups if group.name != reference]
    rows = -(-len(others) // COLUMNS)
    figure.set_size_inches(SIZE[0], 0.6 + PANEL_HEIGHT * rows)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, group in zip(panels, others, strict=False):
        for one in known:
            _draw_group(axes, one, axis, measure, theme.ink, limits[1], None, True)
        _, above = _draw_group(axes, group, axis, measure, theme.colours[0], limits[1], None, False)
        axes.set_title(_name(group), fontsize=9, color=theme.colours[0])
        axes.tick_params(labelsize=8)
        _finish(axes, limits)
        _mark_ends_above(axes, above[:1], limits[1])
    for axes in panels[len(others) :]:
        axes.set_axis_off()
    for axes in panels[len(others) - COLUMNS : len(others)]:  # the last in their columns
        axes.tick_params(labelbottom=True)
    beside = f" (black: {reference})" if theme is LIGHT else f" (white: {reference})"
    figure.supxlabel(AXIS_LABELS[axis] + (beside if known else ""), fontsize=10)
    figure.supylabel(MEASURE_LABELS[measure], fontsize=10)


def _draw_group(
    axes: "Axes",
    group: Group,
    axis: Axis,
    measure: Measure,
    tint: str,
    high: float,
    shape: str | None,
    is_reference: bool,
) -> tuple[tuple[float, float] | None, list[tuple[float, float, str]]]:
    """Draw the curves of a group; return where its line ends, and the ends of lines that lie above the window."""
    end, above = None, []
    line = mean_line(group.stable, axis, measure)
    if line.places:
        axes.fill_between(line.places, line.lows, line.highs, color=tint, alpha=0.18, linewidth=0)
        axes.plot(
            line.places,
            line.means,
            color=tint,
            marker=shape,
            markersize=3.5,
            linewidth=2.4 if is_reference and shape else 1.6,
            zorder=3 if is_reference else 2,
        )
        end = line.places[-1], line.means[-1]
        if end[1] > high:
            above.append((*end, tint))
    for run in group.diverged:
        last = _draw_diverged(axes, run, axis, measure, tint, high)
        if last is not None and last[1] > high:
            above.append((*last, tint))
        end = end or last
    return end, above


def _finish(axes: "Axes", limits: tuple[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_ylim(*limits)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def _name(group: Group) -> str:
    return f"{group.name} {CROSS}" if group.diverged else group.name


def comparable(groups: Sequence[Group]) -> Measure:
    """The measure to draw: bits per byte if vocabularies, and with them the units of the loss, differ."""
    runs = [run for group in groups for run in group.runs]
    pairs = [pair for run in runs for pair in zip(run.valid.bits, run.valid.losses, strict=True)]
    is_known = all(bits is not None or loss is None for bits, loss in pairs)
    return "bits" if is_known and len({run.vocabulary for run in runs}) > 1 else "losses"


def mean_line(runs: Sequence[Result], axis: Axis, measure: Measure) -> Line:
    """Average runs at each evaluation; evaluations with a loss that was not finite are left out."""
    line = Line([], [], [], [])
    for points in zip(*(_points(run, axis, measure) for run in runs), strict=False):
        losses = [loss for _, loss in points if loss is not None]
        if len(losses) == len(points):
            line.places.append(mean([place for place, _ in points]) or 0.0)
            line.means.append(math.fsum(losses) / len(losses))
            line.lows.append(min(losses))
            line.highs.append(max(losses))
    return line


def window(groups: Sequence[Group], measure: Measure) -> tuple[float, float]:
    """Limits of the loss axis: from just below the best loss to just above the losses after a quarter of the steps."""
    best, early = math.inf, []
    for group in groups:
        for run in group.runs:
            finite = [loss for loss in getattr(run.valid, measure) if loss is not None]
            best = min([best, *finite])
            if finite and not run.diverged:
                early.append(finite[min(len(finite) - 1, max(1, len(finite) // 4))])
    if not math.isfinite(best):
        return 0.0, 1.0
    top = max(early, default=best + 1.0)
    span = max(top - best, 0.1)
    return best - 0.08 * span, top + HEADROOM * span


def _tint(groups: Sequence[Group], number: int, theme: Theme, reference: str) -> str:
    """The colour of a curve: distinct for variants, the text colour for the reference, cold to warm in sweeps."""
    if groups[number].rate is not None:
        return gradient(theme, number / max(1, len(groups) - 1))
    return theme.ink if groups[number].name == reference else colour(theme, number - (groups[0].name == reference))


def _points(run: Result, axis: Axis, measure: Measure) -> list[tuple[float, float | None]]:
    return list(zip(getattr(run.valid, axis), getattr(run.valid, measure), strict=True))


def _draw_diverged(
    axes: "Axes", run: Result, axis: Axis, measure: Measure, tint: str, high: float
) -> tuple[float, float] | None:
    """Draw a run that diverged, and return the point where its finite losses end."""
    points = [(x, y) for x, y in _points(run, axis, measure) if y is not None]
    if not points:
        return None
    axes.plot([x for x, _ in points], [y for _, y in points], color=tint, linestyle="--", linewidth=1.2, alpha=0.9)
    if points[-1][1] <= high:
        axes.plot(*points[-1], marker="x", markersize=9, markeredgewidth=2, color=tint)
    return points[-1]


def _mark_ends_above(axes: "Axes", ends: Sequence[tuple[float, float, str]], high: float) -> None:
    """Draw an arrow at the upper edge for every line that ends above it."""
    left, right = axes.get_xlim()
    used: list[float] = []
    for x, y, tint in sorted(ends, reverse=True):
        place = x
        while any(abs(place - other) < 0.07 * (right - left) for other in used):
            place -= 0.07 * (right - left)
        used.append(place)
        arrow_up(axes, place, high, short_loss(y), tint)
