"""Fixed text of the reports: captions, headings, and how to read the numbers."""

from trainer.experiments.reporting.numbers import PERCENT
from trainer.experiments.reporting.pictures import CROSS
from trainer.experiments.results import Kind

INCOMPLETE = "This report covers only a part of the experiment."
VARIANTS = "The variants"
STORIES = "One {} each"
SETTING = "Setting"
COSTS = "Time and memory"
RUNS = "Every run"
WORDY = ("verdict", "change", "hypothesis", "expected", "end")
"""Headings of columns that hold words."""

BY_SEED = ", seed by seed"
"""End of the name of a fact about a single variant."""
NOTHING_WRITTEN = "(No {}: training stopped before the first one.)"
COSTS_NOTE = "Means over the runs that did not diverge; peak memory is the maximum over all of them."

_NUMBERS = (
    "Losses are nats per token over the run's validation text at the end of training. Bits per byte do not depend on "
    "the vocabulary. The number after ± is the standard deviation over runs that differ only in their seed."
)
_SECONDS = "Seconds of training exclude start-up and evaluations; they depend on what else the machine was doing."
_VERDICTS = (
    'Verdicts compare with the row "{reference}". Better and worse: every {percent} interval of the difference (in '
    "brackets) excludes 0. It is Student's, for the differences between runs of the same seed, or Welch's where seeds "
    "differ. Inconclusive: an interval contains 0, or too few runs leave the spread over seeds unknown. Diverged: in "
    "every run the loss became infinite or NaN, or ended above its start. Unstable: this happened in some runs. Such "
    "runs are counted, not averaged. About one in twenty intervals misses the true difference by chance."
)
_BATCHES = (
    "Each batch size is shown at its best learning rate: the one with the lowest mean loss at which no run "
    "diverged. Where it is the lowest or the highest rate tried, a better one may lie outside the range. Without "
    "several seeds, small differences may be chance."
)


def reading(kind: Kind, baseline: str) -> tuple[str, ...]:
    """Notes on reading the numbers; `baseline` is the name of the variant that others are compared with."""
    reference = baseline if kind == "ablations" else "lowest loss"
    verdicts = _BATCHES if kind == "batch-sweep" else _VERDICTS.format(reference=reference, percent=PERCENT)
    return _NUMBERS, verdicts, _SECONDS


CURVES, DIVERGED = "mean and range", f"; dashed and {CROSS}: diverged"
DIFFERENCES = f"Differences from the baseline with {PERCENT} intervals; a tick for each seed."
RATES = "Final validation loss: a dot per run, crosses diverged; the edge of stability lies in the band."
BATCH_LOSSES = "Final validation loss of each batch size at its best learning rate: a dot per run."
BATCH_RATES = "Best learning rate of each batch size (large) among those tried (small); crosses diverged."
