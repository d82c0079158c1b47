"""Comparisons of groups of runs with a reference, and verdicts from the interval of the difference of means.

Runs of the same seed are pairs: they read the same data in the same order, and begin with the same values in the layers
that they share. The spread of their differences is therefore smaller than that of their losses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.experiments.comparison import Difference, Spread, difference, paired_difference, spread
from trainer.experiments.results.records import Experiment, Group, Result

DECIMALS = 4  # of losses and bits per byte, wherever they are shown


@dataclass(frozen=True)
class Comparison:
    """A group and its difference to the reference: the baseline of ablations, or the best group of a sweep."""

    group: Group
    loss: Spread | None
    """Validation loss in nats per token, over the runs that did not diverge."""
    bits: Spread | None
    """Validation loss in bits per byte, over the same runs."""
    loss_difference: Difference | None
    """None for the reference itself, if either group has no loss, or if the vocabularies differ. A loss per token is
    comparable only between equal vocabularies."""
    bits_difference: Difference | None
    """None for the reference itself, or if either group has no loss."""
    verdict: str
    """A word, and in brackets the reason if the word needs one: "better", "inconclusive (1 run)"."""
    by_seed: tuple[tuple[int, float | None], ...] = ()
    """Seeds that the reference has, too, with the difference of these two runs in bits per byte (nats per token where
    bytes are not known); None if a run diverged."""

    @property
    def word(self) -> str:
        """The verdict without the reason in brackets."""
        return self.verdict.split(" (")[0]


def compare(experiment: Experiment) -> list[Comparison]:
    """Compare every group of an experiment with its reference, in the order of the groups."""
    if experiment.kind == "ablations":
        reference, reference_verdict = experiment.baseline, "baseline"
    else:
        reference, reference_verdict = best_group(experiment.groups), "lowest loss"
    return [_comparison(group, reference, reference_verdict) for group in experiment.groups]


def best_group(groups: Sequence[Group]) -> Group | None:
    """Return the group with the lowest mean loss; groups with a diverged run do not count."""
    losses = {
        group.name: loss.mean for group in groups if group.is_stable and (loss := summarised(group, "final_valid_loss"))
    }
    return min((group for group in groups if group.name in losses), key=lambda group: losses[group.name], default=None)


def summarised(group: Group, name: str) -> Spread | None:
    """Return the spread of the field `name` of the summaries, over the runs that did not diverge.

    The spread is None if no run has the field.
    """
    values = group.values(name)
    return spread(values) if values else None


def shown_interval(difference: Difference | None) -> tuple[float, float] | None:
    """Round the interval of a difference outwards to `DECIMALS`, so that an interval printed without 0 excludes 0."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    scale = 10**DECIMALS
    # Adding zero turns -0.0 into 0.0.
    return math.floor(difference.low * scale) / scale + 0.0, math.ceil(difference.high * scale) / scale + 0.0


def _comparison(group: Group, reference: Group | None, reference_verdict: str) -> Comparison:
    loss, bits = summarised(group, "final_valid_loss"), summarised(group, "bits_per_byte")
    loss_difference = bits_difference = None
    if reference is not None and group is not reference:
        if {run.vocabulary for run in group.stable} == {run.vocabulary for run in reference.stable}:
            loss_difference = _difference(group, reference, "final_valid_loss")
        bits_difference = _difference(group, reference, "bits_per_byte")
    differences = [change for change in (loss_difference, bits_difference) if change is not None]
    verdict = reference_verdict if group is reference and group.stable else _verdict(group, reference, differences)
    by_seed = () if reference is None or group is reference else _by_seed(group, reference)
    return Comparison(group, loss, bits, loss_difference, bits_difference, verdict, by_seed)


def _by_seed(group: Group, reference: Group) -> tuple[tuple[int, float | None], ...]:
    """Return the differences of the runs with the same seed, ordered by seed; () unless each run has one of its own."""
    runs, others = _seeds(group), _seeds(reference)
    stable = [run for run in (*runs.values(), *others.values()) if not run.diverged]
    is_known = all(run.summary["bits_per_byte"] is not None for run in stable)
    name = "bits_per_byte" if is_known else "final_valid_loss"

    def change(run: Result, other: Result) -> float | None:
        if run.diverged or other.diverged:
            return None
        return float(run.summary[name]) - float(other.summary[name])

    return tuple((seed, change(runs[seed], others[seed])) for seed in sorted(runs.keys() & others.keys()))


def _seeds(group: Group) -> dict[int, Result]:
    """Return the runs by their seeds; {} if two have the same one."""
    runs = {int(run.recipe["seed"]): run for run in group.runs if run.recipe.get("seed") is not None}
    return runs if len(runs) == len(group.runs) else {}


def _verdict(group: Group, reference: Group | None, differences: Sequence[Difference]) -> str:
    if not group.runs:
        return "failed"
    if not group.stable:
        return "diverged"
    if group.diverged:
        return f"unstable ({len(group.diverged)} of {_runs(len(group.runs))} diverged)"
    if reference is None or not reference.stable:
        return "inconclusive (no baseline)"
    intervals = [shown_interval(change) for change in differences]
    if intervals and all(interval is not None and interval[0] > 0 for interval in intervals):
        return "worse"
    if intervals and all(interval is not None and interval[1] < 0 for interval in intervals):
        return "better"
    return f"inconclusive ({_runs(min(len(group.stable), len(reference.stable)))})"


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _difference(group: Group, reference: Group, name: str) -> Difference | None:
    """Return the difference of the fields `name`: of pairs where the stable runs of both have the same seeds."""
    runs, others = (_values_by_seed(each, name) for each in (group, reference))
    if len(runs) > 1 and runs.keys() == others.keys():
        return paired_difference([runs[seed] - others[seed] for seed in runs])
    sample, base = summarised(group, name), summarised(reference, name)
    return None if sample is None or base is None else difference(sample, base)


def _values_by_seed(group: Group, name: str) -> dict[int, float]:
    """Return the field `name` of the stable runs by their seeds; {} if one lacks it, or two have the same seed."""
    values = group.values(name)
    stable = [run for run in _seeds(group).values() if not run.diverged]
    if len(values) != len(stable):
        return {}
    return {int(run.recipe["seed"]): value for run, value in zip(stable, values, strict=True)}
