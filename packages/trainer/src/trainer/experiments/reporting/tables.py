"""Tables of a report: rows of text, the header first."""

import csv
import io
from collections.abc import Sequence

from trainer.experiments.reporting.numbers import (
    PERCENT,
    UNKNOWN,
    count,
    difference_and_interval,
    duration,
    mean,
    mean_and_spread,
    memory,
    several,
    short_count,
)
from trainer.experiments.results import BatchFindings, Experiment, Group, compare, study_batches, summarised

Rows = list[list[str]]
VERDICT = "verdict"
RECIPE_COLUMNS = "seed learning_rate batch_size steps vocab_size".split()
SUMMARY_COLUMNS = (
    "status final_valid_loss best_valid_loss perplexity bits_per_byte parameters tokens seconds_total seconds_training "
    "tokens_per_second mfu peak_memory_bytes"
).split()


def results_table(experiment: Experiment) -> Rows:
    """Losses and verdicts, a row per variant, rate or batch size."""
    return _batches(experiment) if experiment.kind == "batch-sweep" else _compared(experiment)


def brief_table(experiment: Experiment) -> Rows:
    """The same for a terminal: of the differences only the one in bits per byte."""
    rows = results_table(experiment)
    return rows if experiment.kind == "batch-sweep" else [[*row[:4], *row[5:]] for row in rows]


def variants_table(experiment: Experiment) -> Rows:
    """Changes, hypotheses and verdicts of the variants of an ablation; empty for sweeps."""
    if experiment.kind != "ablations":
        return []
    variants = experiment.wording.variants
    has_hypotheses = any(variant.hypothesis for variant in variants.values())
    rows = [["variant", "change", *(["hypothesis", "expected"] if has_hypotheses else []), VERDICT]]
    for comparison in compare(experiment):
        if (variant := variants.get(comparison.group.name)) is not None:
            hypothesis = [variant.hypothesis, variant.expected or UNKNOWN] if has_hypotheses else []
            rows.append([comparison.group.name, variant.change, *hypothesis, comparison.verdict])
    return rows


def cost_table(experiment: Experiment) -> Rows:
    """Parameters, time and memory, a row per group with a finished run: means over the runs that did not diverge."""
    is_ablation = experiment.kind == "ablations"  # in sweeps the first column holds the rate
    columns = "perplexity|parameters|tokens|training|whole run|tokens/s|MFU|peak memory".split("|")
    rows = [[_first_column(experiment), *(["learning rate"] if is_ablation else []), *columns]]
    for group in experiment.groups:
        if not group.runs:
            continue
        rates = sorted({run.recipe["learning_rate"] for run in group.runs})
        utilisation = mean(group.values("mfu"))
        rows.append(
            [
                group.name,
                *([", ".join(f"{rate:g}" for rate in rates)] if is_ablation else []),
                mean_and_spread(summarised(group, "perplexity"), ",.2f"),
                count(mean(group.values("parameters"))),
                short_count(mean(group.values("tokens"))),
                duration(mean(group.values("seconds_training"))),
                duration(mean(group.values("seconds_total"))),
                mean_and_spread(summarised(group, "tokens_per_second"), ",.0f"),
                UNKNOWN if utilisation is None else f"{utilisation:.1%}".replace("%", " %"),
                memory(max(group.values("peak_memory_bytes"), default=None)),
            ]
        )
    return rows


def runs_table(experiment: Experiment) -> Rows:
    """Every single run, failed ones with their error."""
    rows = [["run", "seed", "validation loss", "bits per byte", "steps", "whole run", "spikes", "end"]]
    for group in experiment.groups:
        for run in group.runs:
            summary = run.summary
            loss, bits = summary["final_valid_loss"], summary["bits_per_byte"]
            rows.append(
                [
                    run.name,
                    str(run.recipe.get("seed", UNKNOWN)),
                    "not finite" if loss is None else f"{loss:.4f}",
                    UNKNOWN if bits is None else f"{bits:.4f}",
                    count(summary["steps"]),
                    duration(summary["seconds_total"]),
                    count(summary.get("spikes")),
                    f"diverged: {run.divergence}" if run.diverged else summary["status"].replace("_", " "),
                ]
            )
        for failure in group.failures:
            rows.append([failure.name, *[UNKNOWN] * 6, f"failed: {failure.error}"])
    return rows


def runs_csv(experiment: Experiment) -> str:
    """The finished runs as CSV, one line each after a line of names; unknown values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "group", *RECIPE_COLUMNS, *SUMMARY_COLUMNS])
    for group in experiment.groups:
        for run in group.runs:
            values = [run.recipe.get(name) for name in RECIPE_COLUMNS] + [run.summary[name] for name in SUMMARY_COLUMNS]
            writer.writerow([run.name, group.name, *values])
    return text.getvalue()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as plain text in columns, for a terminal: words to the left, numbers to the right."""
    is_text = [column == 0 or all(row[column][:1].isalpha() for row in rows) for column in range(len(rows[0]))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if is_text[column] else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _first_column(experiment: Experiment) -> str:
    return {"ablations": "variant", "lr-sweep": "learning rate", "batch-sweep": "batch and rate"}[experiment.kind]


def _compared(experiment: Experiment) -> Rows:
    """Groups beside their reference, in both units; with their tokens, if these differ as they do at equal time."""
    to = f"to {'best' if experiment.kind == 'lr-sweep' else 'baseline'} [{PERCENT}]"
    rows = [
        [_first_column(experiment), VERDICT, "runs", "validation loss", f"nats {to}", "bits per byte", f"bits {to}"]
    ]
    differ = len({tokens for group in experiment.groups for tokens in group.values("tokens")}) > 1
    rows[0] += ["tokens"] if differ else []
    for comparison in compare(experiment):
        rows.append(
            [
                comparison.group.name,
                comparison.verdict,
                _runs(comparison.group),
                mean_and_spread(comparison.loss),
                difference_and_interval(comparison.loss_difference),
                mean_and_spread(comparison.bits),
                difference_and_interval(comparison.bits_difference),
                *([short_count(mean(comparison.group.values("tokens")))] if differ else []),
            ]
        )
    return rows


def _runs(group: Group) -> str:
    """The number of runs and how many of them did not end well: "3, 1 diverged"."""
    parts = [str(len(group.runs) + len(group.failures))]
    if group.diverged:
        parts.append(f"{len(group.diverged)} diverged")
    if group.failures:
        parts.append(f"{len(group.failures)} failed")
    return ", ".join(parts)


def _batches(experiment: Experiment) -> Rows:
    target = experiment.target_loss
    costs = [] if target is None else [f"tokens to {target:.4g}", f"training to {target:.4g}"]
    rows = [["batch", "best rate", "rates", "validation loss", "bits per byte", *costs, "tokens/s", "peak memory"]]
    for found in study_batches(experiment):
        best = found.best
        if best is None:
            diverged = any(group.diverged for group in found.tried)
            reason = "out of memory" if found.out_of_memory else "diverged" if diverged else "failed"
            rows.append([str(found.batch_size), reason, str(len(found.tried)), *[UNKNOWN] * (len(rows[0]) - 3)])
            continue
        rows.append(
            [
                str(found.batch_size),
                f"{best.rate:g}" + ("" if found.at_end is None else f" ({found.at_end} tried)"),
                str(len(found.tried)),
                mean_and_spread(summarised(best, "final_valid_loss")),
                mean_and_spread(summarised(best, "bits_per_byte")),
                *([] if target is None else _cost_cells(found)),
                mean_and_spread(summarised(best, "tokens_per_second"), ",.0f"),
                memory(max(best.values("peak_memory_bytes"), default=None)),
            ]
        )
    return rows


def _cost_cells(found: BatchFindings) -> list[str]:
    """Tokens and seconds to the target, over the runs that reached it."""
    if not found.reached:
        return ["not reached"] * 2
    partly = f" ({len(found.reached)} of {several(len(found.costs), 'run')})"
    suffix = partly if len(found.reached) < len(found.costs) else ""
    tokens, seconds = (mean([cost.tokens for cost in found.reached]), mean([cost.seconds for cost in found.reached]))
    return [f"{short_count(tokens)}{suffix}", f"{duration(seconds)}{suffix}"]
