"""Variants beside their baseline: what the numbers allow to say."""

from dataclasses import dataclass
from typing import Literal

from tinystories.reporting.numbers import shown_interval
from tinystories.results.records import Experiment, Group
from tinystories.variants import VARIANTS, Variant
from trainer.experiments.comparison import Difference, Spread, difference, spread

Verdict = Literal[
    "baseline",
    "as expected",
    "against the expectation",
    "difference found",
    "no difference found",
    "nothing can be said",
    "diverged",
    "failed",
    "no comparison",
]
Direction = Literal["worse", "better"]


@dataclass(frozen=True)
class Comparison:
    """A variant beside the baseline."""

    group: Group
    variant: Variant | None
    """None where the name is none of the table of ablations."""
    loss: Spread | None
    """Validation loss in nats per token, over the runs that did not diverge."""
    bits: Spread | None
    """The same in bits per byte."""
    loss_difference: Difference | None
    """None for the baseline, without a baseline, and with another vocabulary, whose tokens are other units."""
    bits_difference: Difference | None
    direction: Direction | None
    """What may be claimed: every interval that is shown lies on one side of 0."""
    verdict: Verdict

    @property
    def in_nats(self) -> bool:
        """Whether the losses can be compared; else bits per byte are."""
        return self.loss_difference is not None

    @property
    def difference(self) -> Difference | None:
        """The difference that the text speaks of."""
        return self.loss_difference or self.bits_difference

    @property
    def finding(self) -> str:
        """The verdict in a few words, with the direction of what is claimed."""
        return f"{self.direction}, {self.verdict}" if self.direction else self.verdict


def compare(experiment: Experiment) -> list[Comparison]:
    """Every variant of an experiment beside the baseline, in their order."""
    return [_comparison(group, experiment.baseline) for group in experiment.groups]


def summarised(group: Group, name: str) -> Spread | None:
    """Spread of a number of the summaries over the runs that did not diverge; None if none has it."""
    values = group.values(name)
    return spread(values) if values else None


def _comparison(group: Group, baseline: Group | None) -> Comparison:
    loss, bits = summarised(group, "final_valid_loss"), summarised(group, "bits_per_byte")
    loss_difference = bits_difference = None
    if baseline is not None and group is not baseline:
        if _vocabularies(group) == _vocabularies(baseline):
            loss_difference = _difference(loss, summarised(baseline, "final_valid_loss"))
        bits_difference = _difference(bits, summarised(baseline, "bits_per_byte"))
    direction = _direction([loss_difference, bits_difference])
    variant = VARIANTS.get(group.name)
    known = [one for one in (loss_difference, bits_difference) if one is not None]
    verdict: Verdict
    if group is baseline and group.stable:
        verdict = "baseline"
    elif not group.runs:
        verdict = "failed"
    elif not group.stable:
        verdict = "diverged"
    elif not known:
        verdict = "no comparison"
    elif any(shown_interval(one) is None for one in known):
        verdict = "nothing can be said"
    elif direction is None:
        verdict = "no difference found"
    elif variant is None or variant.expected is None:
        verdict = "difference found"
    else:
        verdict = "as expected" if direction == variant.expected else "against the expectation"
    return Comparison(group, variant, loss, bits, loss_difference, bits_difference, direction, verdict)


def _vocabularies(group: Group) -> set[int]:
    return {run.recipe["vocab_size"] for run in group.stable}


def _difference(sample: Spread | None, reference: Spread | None) -> Difference | None:
    return None if sample is None or reference is None else difference(sample, reference)


def _direction(differences: list[Difference | None]) -> Direction | None:
    intervals = [shown_interval(one) for one in differences if one is not None]
    if not intervals or None in intervals:
        return None
    if all(interval[0] > 0 for interval in intervals if interval):
        return "worse"
    if all(interval[1] < 0 for interval in intervals if interval):
        return "better"
    return None
