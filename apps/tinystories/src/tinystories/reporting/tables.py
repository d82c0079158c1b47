"""The tables: rows of text, the header first."""

from collections.abc import Callable, Sequence

from tinystories.reporting.numbers import (
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
from tinystories.results.batches import study_batches
from tinystories.results.comparisons import compare, summarised
from tinystories.results.rates import study_rates, to_best
from tinystories.results.records import Experiment, Group

Rows = list[list[str]]


def results_table(experiment: Experiment) -> Rows:
    """What came out, a row per variant, rate or batch size."""
    tables: dict[str, Callable[[Experiment], Rows]] = {
        "ablations": _ablations,
        "lr-sweep": _rates,
        "batch-sweep": _batches,
    }
    return tables[experiment.kind](experiment)


def brief_table(experiment: Experiment) -> Rows:
    """The same for a terminal: of the differences to the baseline only the one that the finding speaks of."""
    if experiment.kind != "ablations":
        return results_table(experiment)
    rows = [["variant", "finding", "runs", "validation loss", "bits per byte", f"to baseline [{PERCENT}]"]]
    for comparison in compare(experiment):
        unit = "" if comparison.in_nats or comparison.difference is None else " bits/byte"
        rows.append(
            [
                comparison.group.name,
                comparison.finding,
                runs_cell(comparison.group),
                mean_and_spread(comparison.loss),
                mean_and_spread(comparison.bits),
                difference_and_interval(comparison.difference) + unit,
            ]
        )
    return rows


def cost_table(experiment: Experiment) -> Rows:
    """What it took, a row per group with a finished run: means over the runs that did not diverge."""
    is_ablation = experiment.kind == "ablations"  # in sweeps the first column says the rate
    header = [
        _first_column(experiment),
        *(["learning rate"] if is_ablation else []),
        "perplexity",
        "parameters",
        "tokens",
        "training",
        "whole run",
        "tokens/s",
        "MFU",
        "peak memory",
    ]
    rows = []
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
    return [header, *rows]


def runs_table(experiment: Experiment) -> Rows:
    """Every single run, failed ones with their reason."""
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


def runs_cell(group: Group) -> str:
    """How many runs there are and what became of them: "3, 1 diverged"."""
    parts = [str(len(group.runs) + len(group.failures))]
    if group.diverged:
        parts.append(f"{len(group.diverged)} diverged")
    if group.failures:
        parts.append(f"{len(group.failures)} failed")
    return ", ".join(parts)


def _first_column(experiment: Experiment) -> str:
    return {"ablations": "variant", "lr-sweep": "learning rate", "batch-sweep": "batch and rate"}[experiment.kind]


def _ablations(experiment: Experiment) -> Rows:
    to_baseline = f"to baseline [{PERCENT}]"
    rows = [["variant", "finding", "runs", "validation loss", to_baseline, "bits per byte", to_baseline]]
    for comparison in compare(experiment):
        rows.append(
            [
                comparison.group.name,
                comparison.finding,
                runs_cell(comparison.group),
                mean_and_spread(comparison.loss),
                difference_and_interval(comparison.loss_difference),
                mean_and_spread(comparison.bits),
                difference_and_interval(comparison.bits_difference),
            ]
        )
    return rows


def _rates(experiment: Experiment) -> Rows:
    findings = study_rates(experiment.groups)
    rows = [["learning rate", "finding", "runs", "validation loss", f"to best [{PERCENT}]", "bits per byte"]]
    for group in experiment.groups:
        change = to_best(group, findings.best) if findings.best and group is not findings.best else None
        rows.append(
            [
                group.name,
                _stability(group, is_best=group is findings.best),
                runs_cell(group),
                mean_and_spread(summarised(group, "final_valid_loss")),
                difference_and_interval(change),
                mean_and_spread(summarised(group, "bits_per_byte")),
            ]
        )
    return rows


def _stability(group: Group, *, is_best: bool) -> str:
    if not group.runs:
        return "failed"
    if group.diverged:
        return f"diverged: {group.diverged[0].divergence}"
    return "lowest loss" if is_best else "stable"


def _batches(experiment: Experiment) -> Rows:
    target = experiment.target_loss
    reach = "" if target is None else f" to {target:.4g}"
    costs = [] if target is None else [f"tokens{reach}", f"training{reach}"]
    rows = [["batch", "best rate", "rates", "validation loss", "bits per byte", *costs, "tokens/s", "peak memory"]]
    for found in study_batches(experiment):
        best = found.best
        if best is None:
            reason = "out of memory" if found.out_of_memory else _without_best(found.tried)
            rows.append([str(found.batch_size), reason, str(len(found.tried)), *[UNKNOWN] * (len(rows[0]) - 3)])
            continue
        cells = []
        if target is not None:
            partly = f" ({len(found.reached)} of {several(len(found.costs), 'run')})"
            suffix = partly if len(found.reached) < len(found.costs) else ""
            tokens, seconds = (
                mean([cost.tokens for cost in found.reached]),
                mean([cost.seconds for cost in found.reached]),
            )
            cells = (
                [f"{short_count(tokens)}{suffix}", f"{duration(seconds)}{suffix}"]
                if found.reached
                else ["not reached"] * 2
            )
        rows.append(
            [
                str(found.batch_size),
                f"{best.rate:g}" + ("" if found.at_end is None else f" ({found.at_end} tried)"),
                str(len(found.tried)),
                mean_and_spread(summarised(best, "final_valid_loss")),
                mean_and_spread(summarised(best, "bits_per_byte")),
                *cells,
                mean_and_spread(summarised(best, "tokens_per_second"), ",.0f"),
                memory(max(best.values("peak_memory_bytes"), default=None)),
            ]
        )
    return rows


def _without_best(groups: Sequence[Group]) -> str:
    return "diverged" if any(group.diverged for group in groups) else "failed"
