"""Every run of an experiment as a row of a CSV file, for whoever wants to compute with them."""

import csv
import io

from tinystories.results.records import Experiment

RECIPE_COLUMNS = ("seed", "learning_rate", "batch_size", "steps", "vocab_size")
SUMMARY_COLUMNS = (
    "status",
    "final_valid_loss",
    "best_valid_loss",
    "perplexity",
    "bits_per_byte",
    "parameters",
    "tokens",
    "seconds_total",
    "seconds_training",
    "tokens_per_second",
    "mfu",
    "peak_memory_bytes",
)


def runs_csv(experiment: Experiment) -> str:
    """The finished runs, one line each, after a line of names; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "group", *RECIPE_COLUMNS, *SUMMARY_COLUMNS])
    for group in experiment.groups:
        for run in group.runs:
            values = [run.recipe.get(name) for name in RECIPE_COLUMNS] + [run.summary[name] for name in SUMMARY_COLUMNS]
            writer.writerow([run.name, group.name, *values])
    return text.getvalue()
