"""Facts about the model on the page."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bpe import Tokenizer
from nnscratch import TransformerLM
from tinystories.playground.story_request import MAX_BODY_BYTES
from tinystories.writing import SAMPLE_PROMPT, Sampling
from trainer import read_metrics


def model_facts(model: TransformerLM, tokenizer: Tokenizer, run_dir: Path) -> dict[str, Any]:
    """Size, validation loss and limits of a run's model, and the initial settings of the page."""
    return {
        "run": run_dir.resolve().name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "context_length": model.config.context_length,
        "vocab_size": tokenizer.vocab_size,
        "num_layers": model.config.num_layers,
        "d_model": model.config.d_model,
        "device": str(model.token_embeddings.weight.device),
        "valid_loss": best_valid_loss(run_dir),
        "max_body_bytes": MAX_BODY_BYTES,
        "settings": {"prompt": SAMPLE_PROMPT, **asdict(Sampling())},
    }


def best_valid_loss(run_dir: Path) -> float | None:
    """The lowest validation loss of a run in nats per token, which is that of the loaded weights; None if unknown."""
    try:
        records = read_metrics(run_dir)
    except FileNotFoundError:
        return None
    losses = [record["loss"] for record in records if record["event"] == "eval" and record["loss"] is not None]
    return min(losses, default=None)
