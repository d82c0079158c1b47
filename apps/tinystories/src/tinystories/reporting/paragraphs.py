"""A paragraph per ablation, drawn from the numbers: it claims what the interval in the table allows, and no more."""

from tinystories.reporting.numbers import (
    PERCENT,
    listed,
    mean_and_spread,
    several,
    shown_interval,
    signed,
)
from tinystories.results.comparisons import Comparison, summarised
from tinystories.results.records import Experiment, Group
from trainer.experiments.comparison import Spread


def paragraph(comparison: Comparison, baseline: Group | None) -> str:
    """What was changed and expected, what came out, and what that allows to say."""
    parts = []
    variant = comparison.variant
    if variant is not None:
        parts.append(f"Changed: {variant.what}.")
        if variant.expected is not None:
            parts.append(f"Expected: {variant.expected}. {variant.hypothesis}")
    parts += [_outcome(comparison, baseline), _conclusion(comparison, baseline)]
    return " ".join(part for part in parts if part)


def in_short(experiment: Experiment, comparisons: list[Comparison]) -> list[str]:
    """The whole experiment in a few sentences."""
    sentences = []
    for direction in ("better", "worse"):
        names = [comparison.group.name for comparison in comparisons if comparison.direction == direction]
        if names:
            sentences.append(f"{direction.capitalize()} than the baseline: {listed(names)}.")
    against = [one.group.name for one in comparisons if one.verdict == "against the expectation"]
    if against:
        sentences.append(f"Against the expectation: {listed(against)}.")
    groups = {
        "No difference found": "no difference found",
        "Diverged in every run": "diverged",
        "Failed": "failed",
    }
    for words, verdict in groups.items():
        names = [comparison.group.name for comparison in comparisons if comparison.verdict == verdict]
        if names:
            sentences.append(f"{words}: {listed(names)}.")
    some = [one.group.name for one in comparisons if one.group.diverged and one.group.stable]
    if some:
        sentences.append(f"Diverged in some runs: {listed(some)}.")
    silent = [one for one in comparisons if one.verdict == "nothing can be said"]
    if silent and all(len(group.runs) == 1 for group in experiment.groups if group.runs):
        sentences.append(
            f"One run only, so that nothing can be said: {listed([one.group.name for one in silent])}. "
            "A difference between two single runs may be chance; --seeds 3 would tell."
        )
    elif silent:
        sentences.append(
            f"Nothing can be said of {listed([one.group.name for one in silent])}: too few runs to average."
        )
    if experiment.baseline is None or not experiment.baseline.stable:
        sentences.append("There is no baseline to compare with.")
    return sentences


def _outcome(comparison: Comparison, baseline: Group | None) -> str:
    group = comparison.group
    parts = []
    if group.failures:
        parts.append(
            f"{several(len(group.failures), 'run')} failed: {'; '.join(failure.error for failure in group.failures)}."
        )
    if group.diverged:
        how = listed(sorted({run.divergence for run in group.diverged}))
        parts.append(f"Training diverged in {len(group.diverged)} of {several(len(group.runs), 'run')} ({how}).")
    if not group.stable:
        return " ".join(parts)
    rest = "the other " if group.diverged or group.failures else ""
    single = len(group.stable) == 1
    over = f"In {rest or 'one '}run" if single else f"Over {rest}{several(len(group.stable), 'run')}"
    unit, spread, reference = _measured(comparison, baseline)
    if comparison.verdict == "baseline" or reference is None:
        parts.append(f"{over} the validation loss was {mean_and_spread(spread)} {unit}.")
        return " ".join(parts)
    assert baseline is not None  # there is something to refer to
    beside = f"the baseline's {mean_and_spread(reference)} ({several(len(baseline.stable), 'run')})"
    parts.append(f"{over} the validation loss was {mean_and_spread(spread)} {unit}, beside {beside}.")
    if not comparison.in_nats and comparison.loss is not None:
        parts.append("Its vocabulary is another one, so that losses per token cannot be compared.")
    return " ".join(parts)


def _conclusion(comparison: Comparison, baseline: Group | None) -> str:
    verdict, change = comparison.verdict, comparison.difference
    if verdict == "baseline":
        return "The others are compared with it."
    if verdict == "diverged":
        expected = comparison.variant is not None and comparison.variant.expected == "worse"
        return "Diverged: no loss to compare." + (" That is worse, as expected." if expected else "")
    if verdict == "failed":
        return "There is nothing to compare."
    if verdict == "no comparison" or change is None:
        return "There is nothing to compare it with."
    if verdict == "nothing can be said":
        if _single(comparison.group) or _single(baseline):
            return (
                f"The difference is {signed(change.value)}, but one run says nothing of how far runs with other seeds "
                "would lie apart: nothing can be said."
            )
        return "The runs of a group do not differ at all, so that their spread is not known: nothing can be said."
    interval = shown_interval(change)
    assert interval is not None  # the verdicts that are left have one
    between = f"The difference is {signed(change.value)}, with a {PERCENT} interval from {signed(interval[0])} to "
    between += f"{signed(interval[1])}"
    survivors = " (among the runs that did not diverge)" if _lost_some(comparison.group, baseline) else ""
    if verdict == "no difference found":
        visible = (interval[1] - interval[0]) / 2
        return (
            f"{between}: no difference found{survivors}. These runs could have shown one of about {visible:.4f} "
            "or more; "
            "a smaller one may exist."
        )
    agreement = "" if verdict == "difference found" else f", {verdict}"
    return f"{between}: {comparison.direction} than the baseline{agreement}{survivors}."


def _measured(comparison: Comparison, baseline: Group | None) -> tuple[str, Spread | None, Spread | None]:
    """Unit, spread, and the baseline's spread of what the text speaks of."""
    if comparison.difference is None or comparison.in_nats or baseline is None:
        reference = summarised(baseline, "final_valid_loss") if baseline and comparison.in_nats else None
        return "nats per token", comparison.loss, reference
    return "bits per byte", comparison.bits, summarised(baseline, "bits_per_byte")


def _single(group: Group | None) -> bool:
    return group is not None and len(group.stable) == 1


def _lost_some(group: Group, baseline: Group | None) -> bool:
    return bool(group.diverged) or bool(baseline and baseline.diverged)
