"""What a sweep of learning rates has found: the best rate and the edge of stability."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinystories.reporting.comparisons import summarised
from tinystories.reporting.numbers import shown_interval
from tinystories.reporting.statistics import difference
from tinystories.results import Group


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
    tried = tuple(sorted((group for group in groups if group.runs), key=_rate))
    stable = [group for group in tried if group.is_stable]
    divergent = next((group for group in tried if group.diverged), None)
    below = [group for group in stable if divergent is None or _rate(group) < _rate(divergent)]
    best = best_group(tried)
    return RateFindings(
        best=best,
        alike=tuple(group for group in stable if best is not None and group is not best and _alike(group, best)),
        divergent=divergent,
        stable=below[-1] if below else None,
        stable_again=tuple(group for group in stable if divergent is not None and _rate(group) > _rate(divergent)),
        tried=tried,
    )


def best_group(groups: Sequence[Group]) -> Group | None:
    """The group with the lowest mean loss among those in which no run diverged."""
    losses = {
        group.name: loss.mean for group in groups if group.is_stable and (loss := summarised(group, "final_valid_loss"))
    }
    return min((group for group in groups if group.name in losses), key=lambda group: losses[group.name], default=None)


def _alike(group: Group, best: Group) -> bool:
    losses = summarised(group, "final_valid_loss"), summarised(best, "final_valid_loss")
    if losses[0] is None or losses[1] is None:
        return False
    interval = shown_interval(difference(losses[0], losses[1]))
    return interval is not None and interval[0] <= 0 <= interval[1]


def _rate(group: Group) -> float:
    return group.rate or 0.0
