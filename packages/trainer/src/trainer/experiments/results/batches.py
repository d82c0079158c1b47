"""Findings of a sweep of batch sizes: the best rate of each, and the price of a target loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.experiments.results.comparisons import best_group
from trainer.experiments.results.records import Curve, Experiment, Group


@dataclass(frozen=True)
class Cost:
    """Price of reaching a loss, interpolated between evaluations."""

    tokens: float
    seconds: float
    """Training time."""


@dataclass(frozen=True)
class BatchFindings:
    """Findings for one batch size."""

    batch_size: int
    tried: tuple[Group, ...]
    """Groups of its learning rates."""
    best: Group | None
    """The rate with the lowest mean loss among those at which no run diverged."""
    at_end: Literal["lowest", "highest", "only"] | None
    """Position of the best rate if it is at an end of those tried, so that a better one may lie outside."""
    costs: tuple[Cost | None, ...]
    """Price of the target loss per run at the best rate; None if not reached. Empty without a target."""

    @property
    def reached(self) -> list[Cost]:
        """The costs of the runs that reached the target."""
        return [cost for cost in self.costs if cost is not None]

    @property
    def out_of_memory(self) -> bool:
        """True if no run could be trained for lack of memory."""
        failures = [failure for group in self.tried for failure in group.failures]
        return not any(group.runs for group in self.tried) and any(failure.out_of_memory for failure in failures)


def study_batches(experiment: Experiment) -> list[BatchFindings]:
    """Study every batch size, from the smallest to the largest."""
    sizes = sorted({group.batch_size for group in experiment.groups if group.batch_size is not None})
    return [
        _study(size, [group for group in experiment.groups if group.batch_size == size], experiment.target_loss)
        for size in sizes
    ]


def cost_of(curve: Curve, target: float) -> Cost | None:
    """Tokens and seconds at which a curve first reaches `target`; None if it never does."""
    previous: tuple[float, float, float] | None = None
    for tokens, seconds, loss in zip(curve.tokens, curve.seconds, curve.losses, strict=True):
        if loss is None:
            previous = None
            continue
        if loss <= target:
            if previous is None:
                return Cost(tokens, seconds)
            share = (previous[2] - target) / (previous[2] - loss)
            return Cost(
                previous[0] + share * (tokens - previous[0]),
                previous[1] + share * (seconds - previous[1]),
            )
        previous = (tokens, seconds, loss)
    return None


def _study(batch_size: int, groups: Sequence[Group], target: float | None) -> BatchFindings:
    best = best_group(groups)
    trained = sorted((group.rate or 0.0) for group in groups if group.runs)
    at_end: Literal["lowest", "highest", "only"] | None = None
    if best is not None:
        if len(trained) == 1:
            at_end = "only"
        elif best.rate == trained[0]:
            at_end = "lowest"
        elif best.rate == trained[-1]:
            at_end = "highest"
    costs = () if best is None or target is None else tuple(cost_of(run.valid, target) for run in best.stable)
    return BatchFindings(batch_size, tuple(groups), best, at_end, costs)
