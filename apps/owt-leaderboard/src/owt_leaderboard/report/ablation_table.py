"""Which switches are tried, and the table of what each of them is worth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from owt_leaderboard.recipe.recipes import Recipe

FULL = "full"
SWITCHES = (
    "qk_norm",
    "zero_init_projections",
    "value_embeddings",
    "skip_connections",
    "embedding_shortcut",
    "bigram_embeddings",
    "embedding_norm",
    "narrow_stream",
    "tie_embeddings",
    "normuon",
    "cautious_weight_decay",
)
_OPTIONAL = {"logit_soft_cap": ("15.0", "None"), "average_from": ("0.9", "None"), "masked_inputs": ("0.1", "0.0")}
_CHOICES = {"optimizer": ("muon", "adamw"), "schedule": ("trapezoid", "cosine"), "sampling": ("shuffled", "random")}
_ADAMW_MATRIX_RATE = 0.003  # a hundred times less than Muon's in units of an update's size


def variants(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The full recipe, and the others: what each of them sets, the opposite of one thing in the recipe.

    A feed-forward network of the other kind has as many parameters: SwiGLU's third matrix makes all three narrower.
    """
    found: dict[str, tuple[str, ...]] = {FULL: ()}
    kind, share = ("relu_squared", 3 / 2) if recipe.ffn == "swiglu" else ("swiglu", 2 / 3)
    found[kind] = (f"ffn={kind}", f"d_ff={max(8, 8 * round(recipe.d_ff * share / 8))}")
    for name in SWITCHES:
        is_on = getattr(recipe, name)
        found[f"no_{name}" if is_on else name] = (f"{name}={not is_on}",)
    for name, values in _OPTIONAL.items():
        is_on = bool(getattr(recipe, name))
        found[f"no_{name}" if is_on else name] = (f"{name}={values[is_on]}",)
    for name, values in _CHOICES.items():
        other = next(value for value in values if value != getattr(recipe, name))
        found[other] = (f"{name}={other}",)
    if "adamw" in found:
        found["adamw"] += (f"muon_learning_rate={_ADAMW_MATRIX_RATE}",)
    if recipe.batch_ramp:
        found["no_batch_ramp"] = ("batch_ramp=()",)
    else:  # from half to one and a half of the batch
        found["batch_ramp"] = ("batch_ramp=((0.0,1),(0.33,2),(0.67,3))", f"batch_size={max(1, recipe.batch_size // 2)}")
    return found


def table(
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Mapping[str, Sequence[str]],
    expected: int,
    title: str,
    budget: str,
) -> str:
    """Return Markdown: of each variant mean and deviation over seeds, and its difference to the full recipe.

    Args:
        results: the summaries of the finished runs of each variant.
        settings: what each variant sets.
        expected: how many runs each variant is to have.
        title: the heading.
        budget: what each run has, in words, such as "5m of wall clock".
    """
    from trainer.experiments.comparison import CONFIDENCE, difference, spread

    def values(name: str, key: str) -> list[float]:
        return [run[key] for run in results.get(name, ()) if run.get(key) is not None and not run["diverged"]]

    rows = [
        f"# {title}",
        "",
        f"Every run has {budget}. Mean ± sample standard deviation over seeds;",
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
        rows.append(f"| {name} | {' '.join(settings.get(name, ()))} | {count} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def write_results(out: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], text: str) -> None:
    """Write the table and the summaries that it is made of."""
    from trainer import write_atomically

    write_atomically(out / "ablations.md", text.encode("utf-8"))
    values = {name: list(runs) for name, runs in results.items()}
    write_atomically(out / "ablations.json", json.dumps(values, indent=2).encode("utf-8") + b"\n")


def _mean(values: Sequence[float], digits: int) -> str:
    from trainer.experiments.comparison import spread

    if not values:
        return ""
    found = spread(values)
    deviation = "" if found.deviation is None else f" ± {found.deviation:.{digits}f}"
    return f"{found.mean:.{digits}f}{deviation}"


def _shown(apart: Any) -> str:
    interval = "" if apart.low is None else f" [{apart.low:+.4f}, {apart.high:+.4f}]"
    return f"{apart.value:+.4f}{interval}"
