"""Findings of a sweep of learning rates: the best rate and the edge of stability."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.experiments.results.comparisons import best_group
from trainer.experiments.results.records import Group


@dataclass(frozen=True)
class RateFindings:
    """Learning rates by their final loss."""

    best: Group | None
    """The group with the lowest mean loss among those in which no run diverged."""
    divergent: Group | None
    """The lowest rate at which a run diverged."""
    stable: Group | None
    """The highest rate below `divergent` at which no run diverged; the highest of all if none diverged."""
    stable_again: tuple[Group, ...]
    """Rates above `divergent` at which no run diverged."""
    tried: tuple[Group, ...]
    """Groups with a finished run, from the lowest rate to the highest."""


def study_rates(groups: Sequence[Group]) -> RateFindings:
    """Find the best rate and the edge of stability among groups that differ in their rate."""
    tried = tuple(sorted((group for group in groups if group.runs), key=rate_of))
    stable = [group for group in tried if group.is_stable]
    divergent = next((group for group in tried if group.diverged), None)
    below = [group for group in stable if divergent is None or rate_of(group) < rate_of(divergent)]
    return RateFindings(
        best=best_group(tried),
        divergent=divergent,
        stable=below[-1] if below else None,
        stable_again=tuple(group for group in stable if divergent is not None and rate_of(group) > rate_of(divergent)),
        tried=tried,
    )


def rate_of(group: Group) -> float:
    """The learning rate that a sweep set; 0 where it is not known."""
    return group.rate or 0.0
