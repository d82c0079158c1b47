"""`report.md`: the table of an experiment, its picture, and what each model wrote. All from the records."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinystories.experiments import VARIANTS
from tinystories.results import Result

PICTURE = "curves.png"
COLUMNS = (
    "variant",
    "validation loss",
    "to baseline",
    "perplexity",
    "bits per byte",
    "parameters",
    "tokens",
    "seconds",
    "diverged",
)


def table(results: Sequence[Result]) -> list[list[str]]:
    """The results as rows of text, the header first."""
    baseline = next((result for result in results if result.name == "baseline"), None)
    return [list(COLUMNS)] + [_row(result, baseline) for result in results]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as plain text in columns, for a terminal: names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(results: Sequence[Result], title: str) -> str:
    """The whole report."""
    rows = table(results)
    environment = json.loads((results[0].directory / "environment.json").read_text("utf-8"))
    recipe = results[0].recipe
    seeds = sorted({result.recipe["seed"] for result in results})
    lines = [
        f"# {title}",
        "",
        _setting(recipe, environment),
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + "|".join([":---"] + ["---:"] * (len(rows[0]) - 1)) + "|",
        *("| " + " | ".join(row) + " |" for row in rows[1:]),
        "",
        f"One run per variant (n = 1, seed {', '.join(map(str, seeds))}): the spread over seeds is not known from this "
        "table, and small differences in it may be chance. Losses are nats per token over the whole validation text; "
        "bits per byte do not depend on the vocabulary. *Diverged* says whether a loss was not finite, or the run "
        "ended above the loss it started from. Seconds are those of the whole run, evaluations included.",
        "",
        f"![Validation loss of every variant against steps and seconds]({PICTURE})",
        "",
        "## What was changed, and what was expected",
        "",
    ]
    for result in results:
        if result.name in VARIANTS:
            variant = VARIANTS[result.name]
            lines.append(f"- **{variant.name}** ({variant.what}). {variant.hypothesis}")
    comparison = norm_comparison(results)
    if comparison:
        lines += ["", comparison]
    lines += ["", "## One story each", "", "Same prompt, same seed, temperature 0.8, top-p 0.95.", ""]
    for result in results:
        lines += [f"### {result.name}", "", _quoted(result.sample), ""]
    return "\n".join(lines)


def norm_comparison(results: Sequence[Result]) -> str | None:
    """How the baseline ended beside the run without norms at the same rate, in a sentence; None if one is missing."""
    by_name = {result.name: result for result in results}
    if not {"baseline", "no_rmsnorm"} <= by_name.keys():
        return None
    baseline, without = by_name["baseline"].summary, by_name["no_rmsnorm"]
    if without.summary["diverged"]:
        return f"Without RMSNorm, at the baseline's learning rate, training diverged ({without.divergence[5:]})."
    difference = without.summary["final_valid_loss"] - baseline["final_valid_loss"]
    comparison = "above" if difference > 0 else "below"
    return (
        f"Without RMSNorm, at the baseline's learning rate, training did not diverge; it ended {abs(difference):.3f} "
        f"{comparison} the baseline's validation loss."
    )


def write_report(results: Sequence[Result], directory: Path, title: str) -> Path:
    """Write `report.md` and its picture into `directory`, and return the report's path."""
    from tinystories.pictures import draw_curves
    from trainer import write_atomically

    draw_curves(results, directory / PICTURE)
    path = directory / "report.md"
    write_atomically(path, markdown(results, title).encode("utf-8"))
    return path


def _row(result: Result, baseline: Result | None) -> list[str]:
    summary = result.summary
    loss = summary["final_valid_loss"]
    difference = "-"
    if baseline is not None and result is not baseline and loss is not None:
        reference = baseline.summary["final_valid_loss"]
        difference = "-" if reference is None else f"{loss - reference:+.3f}"
    return [
        result.name,
        _number(loss, ".4f"),
        difference,
        _number(summary["perplexity"], ",.2f"),
        _number(summary["bits_per_byte"], ".4f"),
        f"{summary['parameters']:,}",
        f"{summary['tokens']:,}",
        f"{summary['seconds_total']:.0f}",
        result.divergence,
    ]


def _number(value: float | None, form: str) -> str:
    return "not finite" if value is None or not math.isfinite(value) else format(value, form)


def _setting(recipe: dict[str, Any], environment: dict[str, Any]) -> str:
    return (
        f"{recipe['num_layers']} layers, width {recipe['d_model']}, {recipe['num_heads']} heads, context "
        f"{recipe['context_length']}, vocabulary {recipe['vocab_size']:,}; {recipe['steps']:,} steps of "
        f"{recipe['batch_size']} windows, AdamW at {recipe['learning_rate']:g} unless the variant says otherwise. "
        f"Measured on {environment['device_name']}, {environment['threads']} threads, {environment['dtype']}, torch "
        f"{environment['torch']}, begun {environment['started'][:10]}."
    )


def _quoted(text: str | None) -> str:
    if text is None:
        return "(It wrote nothing: training stopped before.)"
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
