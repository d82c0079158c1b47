"""Entry of a finished run: `entry.md`, with everything that a leaderboard asks for, and its picture `entry.png`."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnscratch.speedrun import Recipe, computing_parameters, make_model
from owt_leaderboard.budget import read_sessions
from owt_leaderboard.report.picture import picture_bytes

if TYPE_CHECKING:
    from bpe import Tokenizer
    from nnscratch.speedrun.language_model import SpeedrunLM

ENTRY_FILE, PICTURE_FILE = "entry.md", "entry.png"
ENTRY_SAMPLE_TOKENS = 256
_SAMPLES = 2
_SAFETY_FACTOR = 1.5  # the speed of a machine varies this much within seconds


def write_text(model: "SpeedrunLM", tokenizer: "Tokenizer", tokens: int, *, seed: int, texts: int = 1) -> list[str]:
    """Sample texts of `tokens` tokens each from the model, each from the beginning of a document.

    Raises:
        ValueError: If the tokenizer has no end-of-text token.
    """
    import torch

    from nnscratch import generate

    if tokenizer.eot_id is None:
        raise ValueError("the tokenizer has no <|endoftext|>: train one with it, since texts begin there")
    start = torch.full((texts, 1), tokenizer.eot_id, device=next(model.parameters()).device)
    token_ids = generate(model, start, max_new_tokens=tokens, temperature=0.8, top_p=0.95, seed=seed)
    return [tokenizer.decode(row[1:].tolist()) for row in token_ids]


def rehearse(recipe: Recipe, tokenizer: "Tokenizer", device: str) -> float:
    """Sample texts and draw the picture with an untrained model, and return the seconds to reserve for the entry.

    A short first round absorbs one-off costs. The faster of two more rounds counts, because the process may be stopped
    during one of them.
    """
    from trainer import resolve_device
    from trainer.checkpoints.random_states import preserved_random_states

    with preserved_random_states():
        model = make_model(recipe, tokenizer.vocab_size, resolve_device(device))
    curve = [(float(second), 1.0) for second in range(100)]

    def time_round(tokens: int) -> float:
        began = time.perf_counter()
        write_text(model, tokenizer, tokens, seed=recipe.seed, texts=_SAMPLES)
        picture_bytes(curve, curve, limit=100.0, title="rehearsal")
        return time.perf_counter() - began

    time_round(2)
    return _SAFETY_FACTOR * min(time_round(ENTRY_SAMPLE_TOKENS), time_round(ENTRY_SAMPLE_TOKENS))


def write_entry(
    run_dir: Path,
    model: "SpeedrunLM",
    tokenizer: "Tokenizer",
    *,
    recipe: Recipe,
    time_limit_seconds: float,
    earlier_limits: Sequence[float] = (),
    reasons: tuple[str, ...],
) -> Path:
    """Write `entry.md` and `entry.png` into the directory of a finished run, and return the path of `entry.md`.

    `recipe` has its final sizes. `earlier_limits` are time limits that the run had before, in seconds. `reasons` are
    lines of text that explain the sizes and tuned rates.
    """
    from trainer import read_config, read_metrics, write_atomically
    from trainer.records import read_object

    config, summary = read_config(run_dir), read_object(run_dir / "summary.json")
    environment = read_object(run_dir / "environment.json")
    metrics = read_metrics(run_dir)
    curves = [
        [(record["seconds_total"], record["loss"]) for record in metrics if record["event"] == event]
        for event in ("train", "eval")
    ]
    title = f"validation loss {summary['final_valid_loss']:.4f} after {time_limit_seconds:,.0f} s"
    picture = picture_bytes(curves[0], curves[1], limit=time_limit_seconds, title=title)
    write_atomically(run_dir / PICTURE_FILE, picture)
    samples = write_text(model, tokenizer, ENTRY_SAMPLE_TOKENS, seed=recipe.seed, texts=_SAMPLES)
    facts = _facts(recipe, config["data"]["valid"]["tokens"], summary, environment, tokenizer.vocab_size)
    times = _times(read_sessions(run_dir), metrics, time_limit_seconds, earlier_limits)
    lines = [
        f"# {title}",
        "",
        "The course's leaderboard takes only personal course work: this is a comparison with it, not a submission.",
        "",
        *_table({**facts, "run": run_dir.name}),
        f"![training and validation loss against seconds]({PICTURE_FILE})",
        "",
        "## Time",
        "",
        *_table(times),
        *([*(f"- {reason}" for reason in reasons), ""] if reasons else []),
        f"## Samples of {ENTRY_SAMPLE_TOKENS} tokens, temperature 0.8, top-p 0.95",
        "",
    ]
    for sample in samples:
        lines += [*("> " + line for line in sample.splitlines()), ""]
    for heading, values in (("Recipe", config["recorded"]["recipe"]), ("Environment", _without_diff(environment))):
        lines += [f"## {heading}", "", "```json", json.dumps(values, indent=2), "```", ""]
    write_atomically(run_dir / ENTRY_FILE, "\n".join(lines).encode("utf-8"))
    return run_dir / ENTRY_FILE


def _facts(
    recipe: Recipe, valid_tokens: int, summary: dict[str, Any], environment: dict[str, Any], vocab_size: int
) -> dict[str, str]:
    model = replace(recipe.model, vocab_size=vocab_size)
    bits, speed = summary["bits_per_byte"], summary["tokens_per_second"]
    per_token = None if bits is None else summary["final_valid_loss"] / math.log(2) / bits
    utilisation = (
        "unknown, because the peak of this device is not listed" if summary["mfu"] is None else f"{summary['mfu']:.1%}"
    )
    if speed is not None:
        operations = speed * recipe.flops_per_token(vocab_size)
        utilisation += f" ({operations / 1e9:,.1f} GFLOP/s of the model's operations in training)"
    heads = f"{model.num_heads} {'heads' if model.num_heads > 1 else 'head'}"
    return {
        "validation loss": (
            f"{summary['final_valid_loss']:.4f} nats per token, perplexity {summary['perplexity']:.2f}"
        ),
        "measured on": f"the first {valid_tokens:,} tokens of the validation text, windows of {model.context_length}",
        "bits per byte": "unknown" if bits is None else f"{bits:.4f}",
        "bytes per token": (
            "unknown" if per_token is None else f"{per_token:.4f} ({vocab_size:,} tokens in the vocabulary)"
        ),
        "training tokens": f"{summary['tokens']:,} in {summary['steps']:,} steps",
        "tokens per second": "unknown" if speed is None else f"{speed:,.0f} in training",
        "MFU": utilisation,
        "model": (
            f"{model.num_layers} layers x {model.d_model}, {heads}, d_ff {model.d_ff}: {summary['parameters']:,} "
            f"parameters, {computing_parameters(model):,} of them in matrices and output layer"
        ),
        "device": f"{environment['device_name']}, {environment['dtype']}, torch {environment['torch']}",
    }


def _times(
    sessions: list[dict[str, Any]], metrics: list[dict[str, Any]], limit: float, earlier_limits: Sequence[float]
) -> dict[str, str]:
    spent = sum(session["seconds"] for session in sessions)
    rows = {
        "limit": f"{limit:,.1f} s, which covers everything except the preparation of the data",
        "spent before this page was written": f"{spent:,.1f} s" + (" - OVER THE LIMIT" if spent > limit else ""),
        "spent when the final loss was known": f"{metrics[-1]['seconds_total']:,.1f} s",
        "of which in optimizer steps": f"{metrics[-1]['seconds_training']:,.1f} s",
    }
    if earlier_limits:
        limits = ", then ".join(f"{seconds:,.1f} s" for seconds in earlier_limits)
        rows["limits before"] = f"{limits}; the sizes were chosen for the first"
    if len(sessions) > 1:
        rows["sessions"] = ", ".join(f"{session['seconds']:,.1f} s" for session in sessions)
        down = ", ".join(f"{session['seconds_down_before']:,.1f} s" for session in sessions[1:])
        rows["down between sessions, not counted"] = down
    return rows


def _table(rows: dict[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def _without_diff(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the environment without later sessions and the diff of the work tree; both are in environment.json."""
    git = environment.get("git")
    kept = {name: value for name, value in environment.items() if name not in ("git", "resumed")}
    return kept | {"git": git and {"commit": git["commit"], "dirty": git["dirty"]}}
