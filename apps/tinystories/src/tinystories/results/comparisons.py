"""Verdicts: each group of runs against a reference, by the interval of the difference of their means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinystories.results.records import Experiment, Group
from trainer.experiments.comparison import Difference, Spread, difference, spread

DECIMALS = 4  # of losses and bits per byte, wherever they are shown


@dataclass(frozen=True)
class Comparison:
    """A group beside the reference: the baseline of ablations, the best rate of a sweep of learning rates."""

    group: Group
    loss: Spread | None
    """Validation loss in nats per token, over the runs that did not diverge."""
    bits: Spread | None
    """The same in bits per byte."""
    loss_difference: Difference | None
    """None for the reference, without a reference, and across vocabularies, whose tokens are different units."""
    bits_difference: Difference | None
    verdict: str
    """A word, with a count of runs in brackets where that explains it: "better", "inconclusive (1 run)"."""

    @property
    def word(self) -> str:
        """The verdict without its count."""
        return self.verdict.split(" (")[0]


def compare(experiment: Experiment) -> list[Comparison]:
    """Compare every group of an experiment with its reference, in the order of the groups."""
    if experiment.kind == "ablations":
        reference, title = experiment.baseline, "baseline"
    else:
        reference, title = best_group(experiment.groups), "lowest loss"
    return [_comparison(group, reference, title) for group in experiment.groups]


def best_group(groups: Sequence[Group]) -> Group | None:
    """The group with the lowest mean loss among those in which no run diverged."""
    losses = {
        group.name: loss.mean for group in groups if group.is_stable and (loss := summarised(group, "final_valid_loss"))
    }
    return min((group for group in groups if group.name in losses), key=lambda group: losses[group.name], default=None)


def summarised(group: Group, name: str) -> Spread | None:
    """Spread of a number of the summaries over the runs that did not diverge; None if none has it."""
    values = group.values(name)
    return spread(values) if values else None


def shown_interval(difference: Difference | None) -> tuple[float, float] | None:
    """The interval to as many decimals as are shown, rounded outwards: an interval printed without 0 excludes 0."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    scale = 10**DECIMALS
    # Adding zero turns -0.0 into 0.0.
    return math.floor(difference.low * scale) / scale + 0.0, math.ceil(difference.high * scale) / scale + 0.0


def _comparison(group: Group, reference: Group | None, title: str) -> Comparison:
    loss, bits = summarised(group, "final_valid_loss"), summarised(group, "bits_per_byte")
    loss_difference = bits_difference = None
    if reference is not None and group is not reference:
        if _vocabularies(group) == _vocabularies(reference):
            loss_difference = _difference(loss, summarised(reference, "final_valid_loss"))
        bits_difference = _difference(bits, summarised(reference, "bits_per_byte"))
    differences = [one for one in (loss_difference, bits_difference) if one is not None]
    verdict = title if group is reference and group.stable else _verdict(group, reference, differences)
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
    intervals = [shown_interval(one) for one in differences]
    if intervals and all(interval is not None and interval[0] > 0 for interval in intervals):
        return "worse"
    if intervals and all(interval is not None and interval[1] < 0 for interval in intervals):
        return "better"
    return f"inconclusive ({_runs(min(len(group.stable), len(reference.stable)))})"


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _vocabularies(group: Group) -> set[int]:
    return {run.recipe["vocab_size"] for run in group.stable}


def _difference(sample: Spread | None, reference: Spread | None) -> Difference | None:
    return None if sample is None or reference is None else difference(sample, reference)
