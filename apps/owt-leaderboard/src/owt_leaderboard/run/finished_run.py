"""A run read back: its recipe, its tokenizer and its model with the weights of the last checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owt_leaderboard.recipe.assembly import make_model
from owt_leaderboard.recipe.recipes import Recipe
from owt_leaderboard.run.decisions import recipe_from_json

if TYPE_CHECKING:
    from torch import nn

    from bpe import Tokenizer


@dataclass(frozen=True)
class FinishedRun:
    """What a run left."""

    recipe: Recipe
    tokenizer: "Tokenizer"
    model: "nn.Module"
    step: int
    """Of the weights."""
    recorded: dict[str, Any]
    """What `config.json` says of the recipe and of the places of the data."""


def read_run(run_dir: Path, device: str) -> FinishedRun:
    """Read a run, on a device.

    Raises:
        FileNotFoundError: there is no run, no checkpoint, or its tokenizer is gone.
        ValueError: a file is damaged.
    """
    from bpe import Tokenizer
    from trainer import load_weights, read_config, resolve_device
    from trainer.checkpoints.store import CheckpointStore

    recorded = read_config(run_dir)["recorded"]
    checkpoint = CheckpointStore(run_dir / "checkpoints", keep=1).latest()
    if checkpoint is None:
        raise FileNotFoundError(f"no checkpoint in {run_dir / 'checkpoints'}: let the run train for longer")
    recipe = recipe_from_json(recorded["recipe"])
    tokenizer = Tokenizer.from_pretrained(recorded["tokenizer"])
    model = make_model(recipe, tokenizer.vocab_size, resolve_device(device))
    step = load_weights(model, checkpoint)
    return FinishedRun(recipe, tokenizer, model, step, recorded)
