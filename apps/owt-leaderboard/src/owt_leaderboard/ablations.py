"""Which switches are tried, and the table of what each of them is worth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FULL = "full"
VARIANTS: dict[str, tuple[str, ...]] = {
    FULL: (),
    "swiglu": ("ffn=swiglu",),
    "no_qk_norm": ("qk_norm=False",),
    "no_zero_init": ("zero_init_projections=False",),
    "no_soft_cap": ("logit_soft_cap=None",),
    "no_value_embeddings": ("value_embeddings=False",),
    "no_skip_connections": ("skip_connections=False",),
    "no_embedding_shortcut": ("embedding_shortcut=False",),
    "tied_embeddings": ("tie_embeddings=True",),
    "adamw": ("optimizer=adamw", "muon_learning_rate=0.003"),
    "normuon": ("normuon=True",),
    "plain_weight_decay": ("cautious_weight_decay=False",),
    "cosine": ("schedule=cosine",),
    "random_windows": ("sampling=random",),
}
"""The full recipe, and what each variant changes of it."""


def variant_assignments(name: str, d_model: int) -> tuple[str, ...]:
    """What a variant sets; SwiGLU's third matrix is paid for by a narrower network of as many parameters."""
    narrower = (f"d_ff={max(8, 8 * round(d_model / 3))}",) if name == "swiglu" else ()
    return VARIANTS[name] + narrower


def table(results: Mapping[str, Sequence[Mapping[str, Any]]], expected: int, title: str, limit: str) -> str:
    """Return Markdown: of each variant mean and deviation over seeds, and its difference to the full recipe.

    Args:
        results: the summaries of the finished runs of each variant.
        expected: how many runs each variant is to have.
        title: the heading.
        limit: the wall-clock limit of each run, as it was given.
    """
    from trainer.statistics import CONFIDENCE, difference, spread

    def values(name: str, key: str) -> list[float]:
        return [run[key] for run in results.get(name, ()) if run.get(key) is not None and not run["diverged"]]

    rows = [
        f"# {title}",
        "",
        f"Every run has {limit} of wall clock, everything included. Mean ± sample standard deviation over seeds;",
        f"difference of the loss to `{FULL}` with Welch's {CONFIDENCE:.0%} interval, positive where it becomes worse.",
        "",
        "| variant | sets | runs | loss | difference | bits per byte | M tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = values(FULL, "final_valid_loss")
    for name in results:
        losses = values(name, "final_valid_loss")
        compared = name != FULL and losses and reference
        apart = _shown(difference(spread(losses), spread(reference))) if compared else ""
        count = f"{len(losses)} of {expected}"
        if broken := sum(bool(run["diverged"]) for run in results[name]):
            count += f", {broken} diverged"
        tokens = [value / 1e6 for value in values(name, "tokens")]
        cells = [_mean(losses, 4), apart, _mean(values(name, "bits_per_byte"), 4), _mean(tokens, 2)]
        rows.append(f"| {name} | {' '.join(VARIANTS.get(name, ()))} | {count} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def write_results(out: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], text: str) -> None:
    """Write the table and the summaries that it is made of."""
    from trainer import write_atomically

    write_atomically(out / "ablations.md", text.encode("utf-8"))
    values = {name: list(runs) for name, runs in results.items()}
    write_atomically(out / "ablations.json", json.dumps(values, indent=2).encode("utf-8") + b"\n")


def _mean(values: Sequence[float], digits: int) -> str:
    from trainer.statistics import spread

    if not values:
        return ""
    found = spread(values)
    deviation = "" if found.deviation is None else f" ± {found.deviation:.{digits}f}"
    return f"{found.mean:.{digits}f}{deviation}"


def _shown(apart: Any) -> str:
    interval = "" if apart.low is None else f" [{apart.low:+.4f}, {apart.high:+.4f}]"
    return f"{apart.value:+.4f}{interval}"
