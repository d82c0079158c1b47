"""Synthetic experiments: directories of runs as the commands leave them, for every way a run can end."""

import json
import math

from trainer.experiments.results import Described, Wording

ENVIRONMENT = {
    "started": "2026-11-21T07:00:00+00:00", "command": ["/somewhere/run.py", "ablations", "--seeds", "3"],
    "git": {"commit": "0123456789abcdef0123", "dirty": True, "status": "", "diff": ""}, "torch": "2.13.0",
    "device": "cpu", "device_name": "a CPU", "dtype": "bfloat16", "threads": 2,
}  # fmt: skip
RECIPE = {
    "num_layers": 4, "d_model": 128, "num_heads": 4, "context_length": 128, "vocab_size": 2048, "steps": 40,
    "time_limit_seconds": None, "batch_size": 16, "optimizer": "adamw", "learning_rate": 0.012, "seed": 0,
}  # fmt: skip
NAMES = ("baseline", "no_rmsnorm", "post_norm", "nope", "silu", "qk_norm", "muon", "half_vocabulary")
WORDING = Wording(
    {name: Described(f"change of {name}", f"hypothesis of {name}", "worse" if name > "no" else None) for name in NAMES},
    text="story",
    command=lambda arguments: " ".join(["python -m app", *arguments[1:]]),
)
STORY = "Once upon a time\nthere was"
BYTES_PER_TOKEN = 3.0


def make_run(
    directory,
    losses,
    *,
    at=None,
    diverged=False,
    story=STORY,
    bytes_per_token=BYTES_PER_TOKEN,
    recipe=RECIPE,
    config=None,
    **changes,
):
    """Write a finished run with these validation losses; `at` is the first step with a loss that is not finite.

    A step is one second of training; the evaluations are ten steps apart. `changes` are changes of the recipe;
    `config` replaces parts of `config.json`.
    """
    recipe = {**recipe, **changes}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"recorded": {"recipe": recipe}} | (config or {})))
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    tokens = recipe["batch_size"] * recipe["context_length"]
    records = [{"event": "train", "step": 1, "loss": 5.0}] + [
        {
            "event": "eval", "step": 10 * i, "tokens": 10 * i * tokens, "seconds_total": 11.0 * i + 1,
            "seconds_training": 10.0 * i, "loss": loss, "bits_per_byte": bits_per_byte(loss, bytes_per_token),
        }
        for i, loss in enumerate(losses)
    ]  # fmt: skip
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if story is not None:
        (directory / "samples.jsonl").write_text(json.dumps({"step": 40, "text": story}) + "\n")
    final = losses[-1]
    summary = {
        "version": 1, "status": "completed" if at is None else "diverged", "diverged": diverged or at is not None,
        "diverged_at_step": at, "divergence": None, "steps": 10 * (len(losses) - 1), "parameters": 1_000_000,
        "tokens": 10 * (len(losses) - 1) * tokens, "final_valid_loss": final, "best_valid_loss": final,
        "perplexity": None if final is None else math.exp(final),
        "bits_per_byte": bits_per_byte(final, bytes_per_token), "seconds_total": 45.0,
        "seconds_training": 40.0, "tokens_per_second": tokens * 1.0, "mfu": None, "peak_memory_bytes": 2**29,
        "spikes": 0, "skipped_steps": 0,
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def bits_per_byte(loss, bytes_per_token=BYTES_PER_TOKEN):
    """Convert a loss in nats per token to bits per byte; None stays None."""
    return None if loss is None else loss / math.log(2) / bytes_per_token


def make_failure(directory, error):
    """Write a run that ended with an error."""
    directory.mkdir(parents=True)
    (directory / "failure.json").write_text(json.dumps({"error": error}))


def make_header(directory, **values):
    """Write `experiment.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    known = {"kind": "ablations", "title": "A test", "dataset": "sample", "target_loss": None, "notes": []}
    (directory / "experiment.json").write_text(json.dumps(known | values))


def make_group(directory, name, finals, **named):
    """Write runs of one variant that end at these losses; the first has seed 0, and None diverges."""
    for seed, final in enumerate(finals):
        folder = directory / (name if seed == 0 else f"{name}-seed-{seed}")
        if final is None:
            make_run(folder, [7.6, 4.0, None], at=17, seed=seed, **named)
        else:
            make_run(folder, [7.6, final + 2.0, final + 1.0, final + 0.2, final], seed=seed, **named)
