"""Pictures of a sweep of batch sizes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainer.experiments.reporting.numbers import mean, short_count, short_loss
from trainer.experiments.reporting.pictures.axes import LOSS_LABEL, arrow_up, loss_window, plain_ticks
from trainer.experiments.reporting.pictures.style import Drawing, Theme
from trainer.experiments.results import BatchFindings, Cost, rate_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def batch_losses(batches: Sequence[BatchFindings]) -> Drawing:
    """Draw the final loss at the best rate of each batch size: a dot per run, a line through the means."""
    return _against_batch(
        batches, lambda found: found.best.values("final_valid_loss") if found.best else [], LOSS_LABEL
    )


def batch_speeds(batches: Sequence[BatchFindings]) -> Drawing:
    """Draw the throughput against the batch size."""
    return _against_batch(
        batches,
        lambda found: found.best.values("tokens_per_second") if found.best else [],
        "training tokens per second",
        from_zero=True,
    )


def batch_costs(batches: Sequence[BatchFindings], cost: Callable[[Cost], float], label: str) -> Drawing:
    """Draw the price of the target loss against the batch size; an arrow on top marks sizes that miss the target."""
    return _against_batch(
        batches,
        lambda found: [cost(one) for one in found.reached] if len(found.reached) == len(found.costs) else [],
        label,
        from_zero=True,
        missing=lambda found: found.best is not None and len(found.reached) < max(1, len(found.costs)),
    )


def batch_rates(batches: Sequence[BatchFindings]) -> Drawing:
    """Draw the best rate of each batch size among those tried; crosses diverged."""

    def draw(figure: "Figure", theme: Theme) -> None:
        axes = figure.subplots()
        axes.set_yscale("log")
        for found in batches:
            for group in found.tried:
                if group.runs:
                    axes.plot(
                        [found.batch_size],
                        [rate_of(group)],
                        marker="x" if group.diverged else "o",
                        color=theme.bad if group.diverged else theme.faint,
                        markersize=5,
                    )
        best = [(found.batch_size, rate_of(found.best)) for found in batches if found.best]
        axes.plot(
            [size for size, _ in best], [rate for _, rate in best], color=theme.colours[0], marker="o", markersize=8
        )
        _batch_axis(axes, batches, theme)
        rates = sorted({group.rate for found in batches for group in found.tried if group.rate and group.runs})
        plain_ticks(axes, rates, vertical=True)
        axes.set_ylabel("learning rate (logarithmic)")

    return draw


def _against_batch(
    batches: Sequence[BatchFindings],
    values: Callable[[BatchFindings], list[float]],
    label: str,
    *,
    from_zero: bool = False,
    missing: Callable[[BatchFindings], bool] = lambda _: False,
) -> Drawing:
    def draw(figure: "Figure", theme: Theme) -> None:
        from matplotlib.ticker import FuncFormatter

        axes = figure.subplots()
        found = [(batch.batch_size, values(batch)) for batch in batches if values(batch)]
        axes.plot(
            [size for size, _ in found],
            [mean(several) or 0.0 for _, several in found],
            color=theme.colours[0],
            linewidth=1.8,
        )
        for size, several in found:
            axes.plot([size] * len(several), several, linestyle="", marker="o", markersize=5.5, color=theme.colours[0])
        if from_zero:
            axes.set_ylim(0, 1.15 * max((value for _, several in found for value in several), default=1.0))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        else:
            means = [mean(several) or 0.0 for _, several in found]
            axes.set_ylim(*loss_window(means, [value for _, several in found for value in several]))
            for size, several in found:
                if min(several) > axes.get_ylim()[1]:
                    arrow_up(axes, size, axes.get_ylim()[1], short_loss(min(several)), theme.colours[0])
        for batch in batches:
            if missing(batch):
                arrow_up(axes, batch.batch_size, axes.get_ylim()[1], "not\nreached", theme.bad)
        _batch_axis(axes, batches, theme)
        axes.set_ylabel(label)

    return draw


def _batch_axis(axes: "Axes", batches: Sequence[BatchFindings], theme: Theme) -> None:
    """Set up a logarithmic axis of batch sizes, and shade the sizes that ran out of memory."""
    from matplotlib.ticker import NullLocator

    sizes = [found.batch_size for found in batches]
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(sizes) / 1.4, max(sizes) * 1.4)
    axes.set_xlabel("batch size (windows per step, logarithmic)")
    failed = [found.batch_size for found in batches if found.out_of_memory]
    if failed:
        axes.axvspan(min(failed) / 1.2, max(sizes) * 1.4, color=theme.bad, alpha=0.13, linewidth=0)
        axes.text(
            0.985,
            0.5,
            "out of memory",
            transform=axes.transAxes,
            rotation=90,
            ha="right",
            va="center",
            color=theme.bad,
            fontsize=9,
        )
