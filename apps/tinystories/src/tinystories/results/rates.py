"""What a sweep of learning rates has found: the best rate and the edge of stability."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinystories.reporting.numbers import shown_interval
from tinystories.results.comparisons import summarised
from tinystories.results.records import Group
from trainer.experiments.comparison import Difference, difference


@dataclass(frozen=True)
class RateFindings:
    """Learning rates by their final loss."""

    best: Group | None
    """Of those at which no run diverged, the one with the lowest mean loss."""
    alike: tuple[Group, ...]
    """The rates whose difference to the best cannot be told from none."""
    divergent: Group | None
    """The lowest rate at which a run diverged."""
    stable: Group | None
    """The highest rate below it at which none did; without a divergent rate, the highest of all."""
    stable_again: tuple[Group, ...]
    """Rates above the lowest divergent one at which none diverged."""
    tried: tuple[Group, ...]
    """Those with a finished run, from the lowest."""


def study_rates(groups: Sequence[Group]) -> RateFindings:
    """Find the best rate and the edge of stability among groups that differ in their rate."""
    tried = tuple(sorted((group for group in groups if group.runs), key=rate_of))
    stable = [group for group in tried if group.is_stable]
    divergent = next((group for group in tried if group.diverged), None)
    below = [group for group in stable if divergent is None or rate_of(group) < rate_of(divergent)]
    best = best_group(tried)
    return RateFindings(
        best=best,
        alike=tuple(group for group in stable if best is not None and group is not best and is_alike(group, best)),
        divergent=divergent,
        stable=below[-1] if below else None,
        stable_again=tuple(group for group in stable if divergent is not None and rate_of(group) > rate_of(divergent)),
        tried=tried,
    )


def best_group(groups: Sequence[Group]) -> Group | None:
    """The group with the lowest mean loss among those in which no run diverged."""
    losses = {
        group.name: loss.mean for group in groups if group.is_stable and (loss := summarised(group, "final_valid_loss"))
    }
    return min((group for group in groups if group.name in losses), key=lambda group: losses[group.name], default=None)


def to_best(group: Group, best: Group) -> Difference | None:
    """The loss of a group less that of the best; None if no run of one of them has a loss."""
    losses = summarised(group, "final_valid_loss"), summarised(best, "final_valid_loss")
    return None if losses[0] is None or losses[1] is None else difference(losses[0], losses[1])


def is_alike(group: Group, best: Group) -> bool:
    """Whether the interval of the difference of their losses holds 0; not so where there is none, for want of runs."""
    interval = shown_interval(to_best(group, best))
    return interval is not None and interval[0] <= 0 <= interval[1]


def rate_of(group: Group) -> float:
    """The learning rate that a sweep set; 0 where it is not known."""
    return group.rate or 0.0
