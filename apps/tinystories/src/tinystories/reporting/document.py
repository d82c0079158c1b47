"""The report as data: what it says, before it is written in a format."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinystories.reporting.numbers import PERCENT
from tinystories.reporting.paragraphs import in_short, paragraph
from tinystories.reporting.pictures.batches import batch_costs, batch_losses, batch_rates, batch_speeds
from tinystories.reporting.pictures.curves import CROSS, Axis, learning_curves
from tinystories.reporting.pictures.forest import differences
from tinystories.reporting.pictures.rates import rate_curve
from tinystories.reporting.pictures.style import Drawing
from tinystories.reporting.setting import Facts, facts, incompleteness
from tinystories.reporting.sweep_text import batch_sentences, rate_sentences
from tinystories.reporting.tables import Rows, cost_table, results_table, runs_table
from tinystories.results.batches import study_batches
from tinystories.results.comparisons import compare
from tinystories.results.rates import study_rates
from tinystories.results.records import Experiment, Group


@dataclass(frozen=True)
class Picture:
    """A picture and the words that go with it."""

    name: str
    """The file's name without an ending."""
    caption: str
    alt: str
    drawing: Drawing


@dataclass(frozen=True)
class Finding:
    """What is said of one variant."""

    name: str
    verdict: str
    text: str


@dataclass(frozen=True)
class Story:
    """What a model wrote; None if it wrote nothing."""

    name: str
    text: str | None


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    incomplete: list[str]
    """Why this is not all of the experiment."""
    summary: list[str]
    """The result in sentences."""
    results: Rows
    reading: list[str]
    """How the numbers are to be read."""
    pictures: list[Picture]
    findings: list[Finding]
    stories: list[Story]
    facts: Facts
    notes: tuple[str, ...]
    costs: Rows
    runs: Rows


def compose(experiment: Experiment) -> Document:
    """Everything that the report of an experiment says and shows."""
    comparisons = compare(experiment) if experiment.kind == "ablations" else []
    batches = study_batches(experiment) if experiment.kind == "batch-sweep" else []
    if experiment.kind == "ablations":
        summary = in_short(experiment, comparisons)
    elif experiment.kind == "lr-sweep":
        summary = rate_sentences(study_rates(experiment.groups))
    else:
        summary = batch_sentences(batches, experiment.target_loss)
    shown = [found.best for found in batches if found.best] if batches else list(experiment.groups)
    return Document(
        title=experiment.title,
        incomplete=incompleteness(experiment),
        summary=summary,
        results=results_table(experiment),
        reading=_reading(experiment),
        pictures=_pictures(experiment, shown) if experiment.runs else [],
        findings=[Finding(one.group.name, one.finding, paragraph(one, experiment.baseline)) for one in comparisons],
        stories=[Story(group.name, group.runs[0].sample) for group in shown if group.runs],
        facts=facts(experiment),
        notes=experiment.notes,
        costs=cost_table(experiment),
        runs=runs_table(experiment),
    )


def _reading(experiment: Experiment) -> list[str]:
    """What the numbers are."""
    sentences = [
        "Losses are nats per token over the whole validation text, at the end of training; bits per byte do not "
        "depend on "
        "the vocabulary. The number after ± is the standard deviation over runs that differ in their seed only. Runs "
        "that "
        "diverged (a loss that is not finite, or an end above the start) are counted, not averaged.",
    ]
    if any(len(group.stable) > 1 for group in experiment.groups) and experiment.kind != "batch-sweep":
        sentences.append(
            f"In brackets is the {PERCENT} interval of a difference of means, by Welch's t. A difference is claimed "
            "only where "
            "every interval shown leaves out 0. With many comparisons, about one in twenty such intervals misses the "
            "truth "
            "by chance."
        )
    if all(len(group.runs) < 2 for group in experiment.groups):
        sentences.append(
            "There is one run of each (n = 1): the spread over seeds is not known from this table, and small "
            "differences in "
            "it may be chance."
        )
    sentences.append(
        "Seconds of training leave out the start and the evaluations; they depend on what else the machine did."
    )
    return sentences


def _pictures(experiment: Experiment, shown: Sequence[Group]) -> list[Picture]:
    curves = [_curves(shown, "tokens" if experiment.kind == "batch-sweep" else "steps"), _curves(shown, "seconds")]
    if experiment.kind == "lr-sweep":
        findings = study_rates(experiment.groups)
        picture = Picture(
            "rates",
            "Final loss against the learning rate: a dot per run, the line through the means. Crosses diverged. The "
            "edge of stability lies in the light band.",
            "Final validation loss against the learning rate. " + " ".join(rate_sentences(findings)),
            rate_curve(experiment.groups, findings),
        )
        return [picture, *curves]
    if experiment.kind == "batch-sweep":
        return [*_batch_pictures(experiment), *curves]
    comparisons = compare(experiment)
    if any(comparison.bits_difference for comparison in comparisons):
        words = "; ".join(f"{one.group.name}: {one.finding}" for one in comparisons)
        curves.insert(
            0,
            Picture(
                "differences",
                f"Difference to the baseline in bits per byte with its {PERCENT} interval; a filled dot where the "
                "interval "
                "leaves out 0, an arrowhead where the difference or the interval goes on outside of the picture.",
                f"Differences to the baseline in bits per byte. {words}.",
                differences(comparisons),
            ),
        )
    return curves


def _curves(groups: Sequence[Group], axis: Axis) -> Picture:
    words = {"steps": "optimizer steps", "tokens": "training tokens", "seconds": "seconds of training"}[axis]
    return Picture(
        f"loss-by-{axis}",
        f"Validation loss against {words}: the mean of the runs, with a band from the lowest to the highest. Dashed "
        f"lines that end in a cross diverged ({CROSS} marks whose runs); arrows tell where what left the window ends.",
        f"Learning curves of {', '.join(group.name for group in groups)} against {words}.",
        learning_curves(groups, axis),
    )


def _batch_pictures(experiment: Experiment) -> list[Picture]:
    batches = study_batches(experiment)
    sizes = ", ".join(str(found.batch_size) for found in batches)
    pictures = [
        Picture(
            "batch-losses",
            "Final loss of each batch size at its best learning rate: a dot per run, the line through the means.",
            f"Final validation loss against batch sizes {sizes}.",
            batch_losses(batches),
        ),
        Picture(
            "batch-rates",
            "The best learning rate of each batch size (large dots) among those tried (small ones); crosses diverged.",
            f"Best learning rate against batch sizes {sizes}.",
            batch_rates(batches),
        ),
    ]
    target = experiment.target_loss
    if target is not None and any(found.reached for found in batches):
        for name, label, cost in (
            ("tokens", f"training tokens to a loss of {target:.4g}", lambda one: one.tokens),
            ("seconds", f"seconds of training to a loss of {target:.4g}", lambda one: one.seconds),
        ):
            pictures.append(
                Picture(
                    f"batch-{name}",
                    f"{label[0].upper()}{label[1:]}, interpolated between evaluations.",
                    f"{label} against batch sizes {sizes}.",
                    batch_costs(batches, cost, label),
                )
            )
    pictures.append(
        Picture(
            "batch-speeds",
            "Throughput of training against the batch size.",
            f"Tokens per second against batch sizes {sizes}.",
            batch_speeds(batches),
        )
    )
    return pictures
