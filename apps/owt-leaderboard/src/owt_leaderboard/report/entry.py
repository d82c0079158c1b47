"""The text that a leaderboard entry needs, of a run that has ended: `entry.md`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owt_leaderboard.budget.clock import read_sessions
from owt_leaderboard.budget.sizing import computing_parameters, flops_per_training_token
from owt_leaderboard.recipe.recipes import Recipe
from owt_leaderboard.run.decisions import read_beginning
from owt_leaderboard.run.training import write_text

if TYPE_CHECKING:
    from torch import nn

    from bpe import Tokenizer

ENTRY_FILE, PICTURE_FILE = "entry.md", "entry.png"
ENTRY_SAMPLE_TOKENS = 256
_SAMPLES = 2


def rehearse(recipe: Recipe, tokenizer: "Tokenizer", device: str) -> float:
    """Write and draw what the entry will need, with an untrained model, and return the seconds to reserve for it.

    It is done twice: what only the first time takes is over when the entry comes. A time in which the process was
    stopped does not count.
    """
    from owt_leaderboard.recipe.assembly import make_model
    from owt_leaderboard.report.picture import picture_bytes
    from trainer import resolve_device
    from trainer.checkpoints.random_states import preserved_random_states
    from trainer.interruption import Continuations

    with preserved_random_states():
        model = make_model(recipe, tokenizer.vocab_size, resolve_device(device))
    curve = [(float(second), 1.0) for second in range(100)]

    def once(tokens: int) -> float:
        began = time.perf_counter()
        write_text(model, tokenizer, tokens, seed=recipe.seed, texts=_SAMPLES)
        picture_bytes(curve, curve, limit=100.0, title="rehearsal")
        return time.perf_counter() - began

    once(2)
    with Continuations() as stops:
        seconds = once(ENTRY_SAMPLE_TOKENS)
        while stops.count:
            stops.count = 0
            seconds = once(ENTRY_SAMPLE_TOKENS)
    return 1.25 * seconds  # as much more as the trainer keeps for its end


def write_entry(run_dir: Path, model: "nn.Module", tokenizer: "Tokenizer") -> Path:
    """Write `entry.md` and its picture into a finished run's directory, and return the former's path."""
    from owt_leaderboard.report.picture import picture_bytes
    from trainer import read_config, read_metrics, write_atomically

    config, summary = read_config(run_dir), json.loads((run_dir / "summary.json").read_text("utf-8"))
    environment = json.loads((run_dir / "environment.json").read_text("utf-8"))
    beginning = read_beginning(run_dir)
    assert beginning is not None, "whoever trains here has begun here"
    metrics, limit = read_metrics(run_dir), float(beginning.asked["time_limit_seconds"])
    curves = [
        [(record["seconds_total"], record["loss"]) for record in metrics if record["event"] == event]
        for event in ("train", "eval")
    ]
    title = f"validation loss {summary['final_valid_loss']:.4f} after {limit:,.0f} s"
    write_atomically(run_dir / PICTURE_FILE, picture_bytes(curves[0], curves[1], limit=limit, title=title))
    samples = write_text(model, tokenizer, ENTRY_SAMPLE_TOKENS, seed=beginning.recipe.seed, texts=_SAMPLES)
    lines = [
        f"# {title}",
        "",
        "The course's leaderboard takes only personal course work: this is a comparison with it, not a submission.",
        "",
        *_table(_facts(beginning.recipe, config, summary, environment, tokenizer.vocab_size, limit, run_dir)),
        "",
        f"![training and validation loss against seconds]({PICTURE_FILE})",
        "",
        "## Time",
        "",
        *_table(_times(read_sessions(run_dir), metrics, limit)),
        "",
        *([*(f"- {reason}" for reason in beginning.reasons), ""] if beginning.reasons else []),
        f"## Text of {ENTRY_SAMPLE_TOKENS} tokens, temperature 0.8, top-p 0.95",
        "",
    ]
    for sample in samples:
        lines += [*("> " + line for line in sample.splitlines()), ""]
    lines += ["## Recipe", "", "```json", json.dumps(config["recorded"]["recipe"], indent=2), "```", ""]
    lines += ["## Environment", "", "```json", json.dumps(_without_diff(environment), indent=2), "```", ""]
    write_atomically(run_dir / ENTRY_FILE, "\n".join(lines).encode("utf-8"))
    return run_dir / ENTRY_FILE


def _facts(
    recipe: Recipe,
    config: dict[str, Any],
    summary: dict[str, Any],
    environment: dict[str, Any],
    vocab_size: int,
    limit: float,
    run_dir: Path,
) -> list[tuple[str, str]]:
    from trainer import TokenDataset

    valid = TokenDataset(config["recorded"]["valid_tokens"])
    bits = summary["bits_per_byte"]
    per_token = None if valid.num_bytes is None else valid.num_bytes / len(valid)
    speed, parameters = summary["tokens_per_second"], computing_parameters(recipe, vocab_size)
    utilisation = f"{summary['mfu']:.1%}" if summary["mfu"] is not None else "not known, for the device's peak is not"
    heads = f"{recipe.num_heads} {'heads' if recipe.num_heads > 1 else 'head'}"
    if speed is not None:
        operations = speed * flops_per_training_token(recipe, vocab_size)
        utilisation += f" ({operations / 1e9:,.1f} GFLOP/s of the model's operations in training)"
    return [
        (
            "validation loss",
            f"{summary['final_valid_loss']:.4f} nats per token, perplexity {summary['perplexity']:.2f}",
        ),
        ("measured on", f"the whole validation text: {len(valid):,} tokens, windows of {recipe.context_length}"),
        ("bits per byte", "not known" if bits is None else f"{bits:.4f}"),
        (
            "bytes per token",
            "not known" if per_token is None else f"{per_token:.4f} ({vocab_size:,} tokens in the vocabulary)",
        ),
        ("wall clock", f"limit {limit:,.1f} s, everything included but the preparation of the data"),
        ("training tokens", f"{summary['tokens']:,} in {summary['steps']:,} steps"),
        ("tokens per second", "not known" if speed is None else f"{speed:,.0f} in training"),
        ("MFU", utilisation),
        (
            "model",
            f"{recipe.num_layers} layers x {recipe.d_model}, {heads}, d_ff {recipe.d_ff}: "
            f"{summary['parameters']:,} parameters, {parameters:,} of them in matrices and output layer",
        ),
        ("device", f"{environment['device_name']}, {environment['dtype']}, torch {environment['torch']}"),
        ("run", run_dir.name),
    ]


def _times(sessions: list[dict[str, Any]], metrics: list[dict[str, Any]], limit: float) -> list[tuple[str, str]]:
    spent = sum(session["seconds"] for session in sessions)
    rows = [
        ("spent when the final loss was known", f"{metrics[-1]['seconds_total']:,.1f} s"),
        (
            "spent when this was written",
            f"{spent:,.1f} s of {limit:,.1f} s" + (" - OVER THE LIMIT" if spent > limit else ""),
        ),
        ("of it in optimizer steps", f"{metrics[-1]['seconds_training']:,.1f} s"),
    ]
    if len(sessions) > 1:
        rows += [
            ("sessions", ", ".join(f"{session['seconds']:,.1f} s" for session in sessions)),
            ("down between them, not counted", ", ".join(f"{s['seconds_down_before']:,.1f} s" for s in sessions[1:])),
        ]
    return rows


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _without_diff(environment: dict[str, Any]) -> dict[str, Any]:
    """The environment without the text of uncommitted changes, which environment.json has."""
    git = environment.get("git")
    kept = {name: value for name, value in environment.items() if name not in ("git", "resumed")}
    return kept | {"git": git and {"commit": git["commit"], "dirty": git["dirty"]}}
