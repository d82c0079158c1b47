"""Forest plot of the differences from the baseline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.experiments.reporting.numbers import PERCENT, signed
from trainer.experiments.reporting.pictures.style import SIZE, Drawing, Theme
from trainer.experiments.results import Comparison, shown_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 1.08  # of the axis, in half widths
MOST = 4.0  # times the median difference: larger ones are drawn at the edge, with their number


def differences(comparisons: Sequence[Comparison]) -> Drawing:
    """Draw every difference in bits per byte with its interval, and below it a tick for each seed.

    A filled dot marks a verdict of better or worse, an arrowhead a difference or an interval that continues outside.
    """
    others = [comparison for comparison in comparisons if comparison.verdict != "baseline"]

    def draw(figure: "Figure", theme: Theme) -> None:
        from matplotlib.ticker import MaxNLocator

        figure.set_figheight(min(SIZE[1], 1.2 + 0.64 * len(others)))  # a tick stays close to its dot
        axes = figure.subplots()
        limit = _limit(others)
        for row, comparison in enumerate(others):
            change = comparison.bits_difference
            if change is None:
                axes.text(0, row, f" {comparison.verdict}", color=theme.bad, va="center", fontsize=9.5)
                continue
            tint = {"worse": theme.bad, "better": theme.good}.get(comparison.word, theme.neutral)
            interval = shown_interval(change)
            place = min(max(change.value, -limit), limit)
            is_outside = place != change.value
            if interval is not None and not is_outside:
                ends = [max(interval[0], -MARGIN * limit), min(interval[1], MARGIN * limit)]
                axes.plot(ends, [row, row], color=tint, linewidth=2.2, solid_capstyle="butt")
                for end, bound, shape in zip(ends, interval, "<>", strict=True):
                    if end != bound:  # the interval continues outside
                        axes.plot([end], [row], marker=shape, markersize=7, color=tint, clip_on=False)
            shape = (">" if change.value > 0 else "<") if is_outside else "o"
            axes.plot(
                [place],
                [row],
                marker=shape,
                markersize=8,
                color=tint,
                markerfacecolor=theme.ground if tint == theme.neutral else tint,
                clip_on=False,
                zorder=3,
            )
            for _, one in comparison.by_seed:
                if one is not None and abs(one) <= limit:
                    axes.plot([one], [row + 0.27], marker="|", markersize=6, color=tint, alpha=0.7)
            axes.text(1.02, row, signed(change.value), transform=axes.get_yaxis_transform(), color=tint, va="center")
        axes.axvline(0, color=theme.ink, linewidth=1.2)
        axes.set_xlim(-MARGIN * limit, MARGIN * limit)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylim(len(others) - 0.4, -0.6)
        axes.set_yticks(range(len(others)), labels=[comparison.group.name for comparison in others])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"← better    difference in bits per byte [{PERCENT}]    worse →")

    return draw


def _limit(comparisons: Sequence[Comparison]) -> float:
    """Half the width of the axis: it holds all differences and intervals but those far larger than the median."""
    reaches = []
    for comparison in comparisons:
        change = comparison.bits_difference
        if change is not None:
            reaches.append(max(abs(bound) for bound in (change.value, *(shown_interval(change) or ()))))
    if not reaches:
        return 1.0
    reaches.sort()
    most = MOST * max(reaches[len(reaches) // 2], 0.001)
    return max(reach for reach in reaches if reach <= most) * 1.05 + 1e-4
