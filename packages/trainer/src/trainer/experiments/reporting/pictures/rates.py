"""Picture of a sweep of learning rates."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.experiments.reporting.numbers import mean, short_loss
from trainer.experiments.reporting.pictures.axes import LOSS_LABEL, arrow_up, loss_window, plain_ticks
from trainer.experiments.reporting.pictures.style import Drawing, Theme
from trainer.experiments.results import Group, RateFindings, rate_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rate_curve(groups: Sequence[Group], findings: RateFindings) -> Drawing:
    """Draw the final loss against the learning rate: a dot per run, a line through the means.

    Rates at which a run diverged have a cross at the top; the edge of stability is shaded.
    """

    def draw(figure: "Figure", theme: Theme) -> None:
        axes = figure.subplots()
        axes.set_xscale("log")
        means = [
            (rate_of(group), mean(group.values("final_valid_loss")) or 0.0)
            for group in groups
            if group.rate and group.is_stable
        ]
        low, high = loss_window(
            [loss for _, loss in means], [loss for g in groups for loss in g.values("final_valid_loss")]
        )
        axes.plot([rate for rate, _ in means], [loss for _, loss in means], color=theme.colours[0], linewidth=1.8)
        for group in groups:
            losses = group.values("final_valid_loss")
            axes.plot(
                [rate_of(group)] * len(losses),
                losses,
                linestyle="",
                marker="o",
                color=theme.colours[0],
                markerfacecolor=theme.ground if group.diverged else theme.colours[0],
                markersize=5.5,
            )
            if group.diverged:
                axes.plot(
                    [rate_of(group)],
                    [0.955],
                    marker="x",
                    markersize=10,
                    markeredgewidth=2.4,
                    color=theme.bad,
                    transform=axes.get_xaxis_transform(),
                )
        _mark_losses_above(axes, groups, high, theme)
        axes.set_ylim(low, high)
        _shade_edge(axes, findings, theme)
        _mark_best(axes, findings, theme)
        plain_ticks(axes, [group.rate for group in groups if group.rate and group.runs])
        axes.set_xlabel("learning rate (logarithmic)")
        axes.set_ylabel(LOSS_LABEL)

    return draw


def _mark_losses_above(axes: "Axes", groups: Sequence[Group], high: float, theme: Theme) -> None:
    """Mark losses above the window with arrows; texts of neighbours are at different heights."""
    rates = [rate_of(group) for group in groups if group.rate]
    room = 0.09 * math.log(max(rates) / min(rates)) if rates else 0.0
    previous, level = 0.0, 0
    for group in groups:
        above = [loss for loss in group.values("final_valid_loss")[:1] if loss > high]
        if above and group.rate:
            level = 1 - level if previous and math.log(group.rate / previous) < room else 0
            arrow_up(axes, group.rate, high, short_loss(above[0]), theme.colours[0], level)
            previous = group.rate


def _shade_edge(axes: "Axes", findings: RateFindings, theme: Theme) -> None:
    """Shade the edge, between the highest stable and the lowest divergent rate, and the divergent rates beyond it."""
    if findings.divergent is None or not findings.divergent.rate:
        return
    rates = [group.rate for group in findings.tried if group.rate]
    end = max(rates) * (max(rates) / min(rates)) ** 0.08
    axes.axvspan(findings.divergent.rate, end, color=theme.bad, alpha=0.16, linewidth=0)
    if findings.stable is not None and findings.stable.rate:
        axes.axvspan(findings.stable.rate, findings.divergent.rate, color=theme.bad, alpha=0.07, linewidth=0)
        middle = math.sqrt(findings.stable.rate * findings.divergent.rate)
        axes.text(
            middle,
            0.5,
            "edge of stability",
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="center",
            color=theme.bad,
            fontsize=9,
        )
    axes.text(
        math.sqrt(findings.divergent.rate * end),
        0.87,
        "diverged",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        color=theme.bad,
        fontsize=9,
    )
    axes.set_xlim(right=end)


def _mark_best(axes: "Axes", findings: RateFindings, theme: Theme) -> None:
    best = findings.best
    if best is None or best.rate is None:
        return
    loss = mean(best.values("final_valid_loss")) or 0.0
    axes.plot(
        [best.rate], [loss], marker="o", markersize=13, markerfacecolor="none", color=theme.good, markeredgewidth=2
    )
    axes.annotate(
        f"lowest: {loss:.3f} at {best.rate:g}",
        xy=(best.rate, loss),
        xytext=(0, -21),
        textcoords="offset points",
        ha="center",
        color=theme.good,
        fontsize=9.5,
    )
