"""Facts about the model on the page."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.experiments.playground.story_request import MAX_BODY_BYTES
from trainer.experiments.runs import Sampling, TrainedModel


def model_facts(trained: TrainedModel, run_dir: Path, prompt: str) -> dict[str, Any]:
    """Size, validation loss and limits of a run's model, and the initial settings of the page."""
    model = trained.model
    return {
        "run": run_dir.resolve().name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "context_length": model.config.context_length,
        "vocab_size": trained.tokenizer.vocab_size,
        "num_layers": model.config.num_layers,
        "d_model": model.config.d_model,
        "device": str(model.token_embeddings.weight.device),
        "valid_loss": trained.valid_loss,
        "max_body_bytes": MAX_BODY_BYTES,
        "settings": {"prompt": prompt, **asdict(Sampling())},
    }
