"""Table of an ablation: what each variant of the recipe is worth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from owt_leaderboard.variants import FULL
from trainer.experiments.comparison import CONFIDENCE, Difference, difference, spread
from trainer.support.files import make_directory

Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""Summaries of the finished runs of each variant."""


def table(results: Results, settings: Mapping[str, Sequence[str]], seeds: int, title: str, budget: str) -> str:
    """Return a Markdown table: mean and deviation of each variant over seeds, and its difference from the full recipe.

    Args:
        results: Summaries of the finished runs of each variant.
        settings: Assignments of each variant, as `--set` takes it: {"no_muon": ["optimizer=adamw"]}.
        seeds: Runs of each variant, finished or not.
        title: Heading.
        budget: Budget of each run, in words: "2 minutes".
    """

    def values(name: str, key: str) -> list[float]:
        return [run[key] for run in results.get(name, ()) if run.get(key) is not None and not run["diverged"]]

    rows = [
        f"# {title}",
        "",
        f"Every run has {budget}. Mean ± sample standard deviation over seeds;",
        f"difference in loss from `{FULL}` with Welch's {CONFIDENCE:.0%} interval, positive where a variant is worse.",
        "",
        "| variant | sets | runs | loss | difference | bits per byte | M tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = values(FULL, "final_valid_loss")
    for name in results:
        losses = values(name, "final_valid_loss")
        is_compared = name != FULL and losses and reference
        from_full = _with_interval(difference(spread(losses), spread(reference))) if is_compared else ""
        count = f"{len(losses)} of {seeds}"
        if broken := sum(bool(run["diverged"]) for run in results[name]):
            count += f", {broken} diverged"
        tokens = [value / 1e6 for value in values(name, "tokens")]
        cells = [_mean(losses, 4), from_full, _mean(values(name, "bits_per_byte"), 4), _mean(tokens, 2)]
        rows.append(f"| {name} | {' '.join(settings.get(name, ()))} | {count} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def write_results(out: Path, results: Results, text: str) -> None:
    """Write the table and the summaries behind it."""
    from trainer import write_atomically

    make_directory(out)
    write_atomically(out / "ablations.md", text.encode("utf-8"))
    values = {name: list(runs) for name, runs in results.items()}
    write_atomically(out / "ablations.json", json.dumps(values, indent=2).encode("utf-8") + b"\n")


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{spread(values):.{digits}f}" if values else ""


def _with_interval(found: Difference) -> str:
    interval = "" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}{interval}"
