"""Comparisons of groups of runs with a reference, and verdicts from the interval of the difference of means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.experiments.comparison import Difference, Spread, difference, spread
from trainer.experiments.results.records import Experiment, Group

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
            loss_difference = _difference(loss, summarised(reference, "final_valid_loss"))
        bits_difference = _difference(bits, summarised(reference, "bits_per_byte"))
    differences = [change for change in (loss_difference, bits_difference) if change is not None]
    verdict = reference_verdict if group is reference and group.stable else _verdict(group, reference, differences)
    return Comparison(group, loss, bits, loss_difference, bits_difference, verdict)


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


def _difference(sample: Spread | None, reference: Spread | None) -> Difference | None:
    return None if sample is None or reference is None else difference(sample, reference)
