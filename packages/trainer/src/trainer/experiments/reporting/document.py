"""The report of an experiment as data, before it is written as Markdown or HTML."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from trainer.experiments.reporting import words
from trainer.experiments.reporting.pictures import (
    AXIS_LABELS,
    Drawing,
    batch_costs,
    batch_losses,
    batch_rates,
    batch_speeds,
    differences,
    learning_curves,
    rate_curve,
)
from trainer.experiments.reporting.summary import Facts, has_equal_steps, headline, key_figures, missing, setting
from trainer.experiments.reporting.tables import Rows, cost_table, results_table, runs_table, variants_table
from trainer.experiments.results import Experiment, Group, best_group, compare, study_batches, study_rates


@dataclass(frozen=True)
class Picture:
    """A picture with its caption."""

    name: str
    """Name of the file, without its suffix."""
    title: str
    """The alternative text."""
    caption: str
    drawing: Drawing


@dataclass(frozen=True)
class Story:
    """The last text that a model wrote in training."""

    name: str
    """Name of the group of runs."""
    text: str | None
    """None if the model wrote no text."""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    missing: Facts
    """Gaps in the experiment, such as failed runs."""
    headline: str
    """The result in one sentence."""
    summary: Facts
    results: Rows
    reading: tuple[str, ...]
    """Notes on reading the numbers."""
    pictures: list[Picture]
    variants: Rows
    """Changes and hypotheses of the variants; empty for sweeps."""
    stories: list[Story]
    text: str
    """Word for a text that a model wrote, such as "story"."""
    text_note: str
    """How the texts were sampled; empty if nothing is known."""
    setting: Facts
    """Settings and machine of the runs."""
    notes: tuple[str, ...]
    costs: Rows
    runs: Rows
    sources: dict[str, str]
    """Links to the directories of the runs, by their names."""
    places: dict[str, str]
    """Anchors of the groups of runs, by the first cells of the rows in `results`, `variants` and `costs`."""
    group_starts: dict[str, str]
    """The same anchors, by the first cells of the rows in `runs` at which the groups begin."""


def compose(experiment: Experiment, directory: Path) -> Document:
    """Collect the whole content of the report of an experiment, which is written into `directory`."""
    shown = list(experiment.groups)
    if experiment.kind == "batch-sweep":
        shown = [batch.best for batch in study_batches(experiment) if batch.best]
    return Document(
        title=experiment.title,
        missing=missing(experiment),
        headline=headline(experiment),
        summary=key_figures(experiment),
        results=results_table(experiment),
        reading=words.reading(experiment.kind, experiment.wording.baseline),
        pictures=_pictures(experiment, shown) if experiment.runs else [],
        variants=variants_table(experiment),
        stories=[Story(group.name, group.runs[0].sample) for group in shown if group.runs],
        text=experiment.wording.text,
        text_note=experiment.wording.text_note,
        setting=setting(experiment),
        notes=experiment.notes,
        costs=cost_table(experiment),
        runs=runs_table(experiment),
        sources={run.name: _link(run.directory, directory) for run in experiment.runs},
        **_anchors(experiment),
    )


def _link(run: Path, directory: Path) -> str:
    """Return the relative link to a run; an absolute one where there is no relative path, as between drives."""
    try:
        return quote(Path(os.path.relpath(run, directory)).as_posix()) + "/"
    except ValueError:
        return run.resolve().as_uri() + "/"


def _anchors(experiment: Experiment) -> dict[str, dict[str, str]]:
    """Return `places` and `group_starts` of a document."""
    places: dict[str, str] = {}
    starts: dict[str, str] = {}
    for number, group in enumerate(experiment.groups, start=1):
        if names := [*(run.name for run in group.runs), *(failure.name for failure in group.failures)]:
            places[group.name] = starts[names[0]] = f"runs-{number}"
    if experiment.kind == "batch-sweep":
        found = study_batches(experiment)
        places |= {str(batch.batch_size): places[batch.best.name] for batch in found if batch.best}
    return {"places": places, "group_starts": starts}


def _pictures(experiment: Experiment, shown: Sequence[Group]) -> list[Picture]:
    if experiment.kind == "lr-sweep":
        drawing = rate_curve(experiment.groups, study_rates(experiment.groups))
        first = [Picture("rates", "Final validation loss against the learning rate", words.RATES, drawing)]
    elif experiment.kind == "batch-sweep":
        first = _batch_pictures(experiment)
    else:
        comparisons = compare(experiment)
        title = "Differences from the baseline in bits per byte"
        first = [Picture("differences", title, words.DIFFERENCES, differences(comparisons))]
        if not any(comparison.bits_difference for comparison in comparisons):
            first = []
    curves = []
    best = best_group(experiment.groups)
    reference = experiment.wording.baseline if experiment.kind == "ablations" or best is None else best.name
    diverged = words.DIVERGED if any(run.diverged for run in experiment.runs) else ""
    is_by_tokens = experiment.kind == "batch-sweep" or not has_equal_steps(experiment.runs)
    for axis in ("tokens" if is_by_tokens else "steps", "seconds"):
        title = f"Validation loss against {AXIS_LABELS[axis]}"
        curves.append(
            Picture(
                f"loss-by-{axis}",
                title,
                f"{title}: {words.CURVES}{diverged}.",
                learning_curves(shown, axis, reference),
            )
        )
    return [*first, *curves]


def _batch_pictures(experiment: Experiment) -> list[Picture]:
    batches = study_batches(experiment)
    pictures = [
        Picture("batch-losses", "Final validation loss by batch size", words.BATCH_LOSSES, batch_losses(batches)),
        Picture("batch-rates", "Best learning rate by batch size", words.BATCH_RATES, batch_rates(batches)),
    ]
    target = experiment.target_loss
    if target is not None and any(batch.reached for batch in batches):
        tokens, seconds = f"training tokens to a loss of {target:.4g}", f"seconds of training to a loss of {target:.4g}"
        for name, label, drawing in (
            ("batch-tokens", tokens, batch_costs(batches, lambda cost: cost.tokens, tokens)),
            ("batch-seconds", seconds, batch_costs(batches, lambda cost: cost.seconds, seconds)),
        ):
            title = f"{label[0].upper()}{label[1:]} by batch size"
            pictures.append(Picture(name, title, f"{title}, interpolated between evaluations.", drawing))
    title = "Training throughput by batch size"
    return [*pictures, Picture("batch-speeds", title, f"{title}.", batch_speeds(batches))]
