"""Runs read back from their directories: recipe, tokenizer, the model of the last checkpoint, and the measurement."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nnscratch
from nnscratch.speedrun import Recipe, computing_parameters, from_record, make_model
from owt_leaderboard.budget import Measurement
from owt_leaderboard.run.decisions import last_limit, read_decisions
from trainer.experiments.runs import App, TrainedModel, recorded_of
from trainer.experiments.texts import find_text, tokenizer_of

if TYPE_CHECKING:
    from bpe import Tokenizer
    from nnscratch.speedrun.language_model import SpeedrunLM
    from trainer.checkpoints.single_file import LoadedWeights


@dataclass(frozen=True)
class TrainedRun:
    """Recipe, tokenizer and model of a run that has at least one checkpoint."""

    recipe: Recipe
    tokenizer: "Tokenizer"
    model: "SpeedrunLM"
    step: "LoadedWeights"
    """Optimizer steps that the model's weights were trained for."""
    recorded: dict[str, Any]
    """Recipe, digest of the tokenizer and paths of the data from the run, as `config.json` records them."""


def read_run(run_dir: Path, device: str) -> TrainedRun:
    """Read a run from its directory, and put its model on a device.

    Raises:
        FileNotFoundError: If there is no run or no checkpoint, or its tokenizer is gone.
        ValueError: If a file is damaged, or another version of the app or another program wrote the run.
    """
    from bpe import Tokenizer
    from trainer import load_weights, resolve_device
    from trainer.checkpoints.store import CheckpointStore

    recorded = recorded_of(run_dir, "owt_leaderboard")
    recipe = from_record(recorded["recipe"])
    checkpoint = CheckpointStore(run_dir / "checkpoints", keep=1).latest()
    if checkpoint is None:
        raise FileNotFoundError(f"no checkpoint in {run_dir / 'checkpoints'}: let the run train for longer")
    tokenizer = Tokenizer.from_pretrained(tokenizer_of(run_dir))
    if tokenizer.sha256 != recorded["tokenizer_sha256"]:
        raise ValueError(f"the tokenizer in {run_dir} is another one than the run was trained with: restore it")
    model = make_model(recipe, tokenizer.vocab_size, resolve_device(device))
    step = load_weights(model, checkpoint)
    return TrainedRun(recipe, tokenizer, model, step, recorded)


def load(run_dir: Path, device: str) -> TrainedModel:
    """Load the model of the last checkpoint of a run; raises what `read_run` raises."""
    run = read_run(run_dir, device)
    return TrainedModel(run.model.eval(), run.tokenizer, run.step.valid_loss)


APP = App(nnscratch, load, prompt="The")


def evaluate_run(run_dir: Path, batch_size: int | None, device: str) -> tuple[float, float | None]:
    """Compute the final loss of a run again, from its last checkpoint over all of its validation text.

    The windows and their order are the same as in the run. Matrix products use the dtype that training uses on
    `device`. Another batch size may change the order of additions within a product, and thus the last bits of a
    float32. Losses are summed in float64.

    Returns:
        The loss in nats per token, and the bits per byte, or None if the number of bytes is not known.

    Raises:
        FileNotFoundError: If there is no run, or its tokenizer or validation text is gone.
        ValueError: If a file is damaged, or batch_size is below 1.
    """
    from trainer import TokenDataset, evaluate, resolve_device, resolve_dtype

    run, where = read_run(run_dir, device), resolve_device(device)
    result = evaluate(
        run.model,
        TokenDataset(find_text(run_dir, run.recorded, "valid_tokens")),
        run.recipe.model.context_length,
        batch_size=run.recipe.batches.batch_size if batch_size is None else batch_size,
        loss_fn=lambda module, inputs, targets: run.model.loss(inputs, targets),
        device=where,
        dtype=resolve_dtype("auto", where),
    )
    return result.loss, result.bits_per_byte


def measurement_of(run_dir: Path, dataset: str) -> Measurement:
    """Return the measurement of a finished run, from which losses of other runs are predicted.

    Raises:
        FileNotFoundError: If the run is not finished.
        ValueError: If the run has no final loss or no speed.
    """
    from bpe import Tokenizer
    from trainer.records import read_object

    summary = read_object(run_dir / "summary.json")
    environment = read_object(run_dir / "environment.json")
    decisions = read_decisions(run_dir)
    if decisions is None or summary["final_valid_loss"] is None or not summary["tokens_per_second"]:
        raise ValueError(f"{run_dir} has no final loss: expected a finished run of this app")
    vocab_size = Tokenizer.from_pretrained(tokenizer_of(run_dir)).vocab_size
    model = replace(decisions.recipe.model, vocab_size=vocab_size)
    operations = decisions.recipe.flops_per_token(vocab_size)
    processes, limit = environment.get("processes") or 1, last_limit(run_dir, decisions)
    return Measurement(
        device=environment["device_name"] + (f" x {processes}" if processes > 1 else ""),
        dataset=dataset,
        time_limit_seconds=limit,
        vocab_size=vocab_size,
        context_length=model.context_length,
        num_layers=model.num_layers,
        d_model=model.d_model,
        batch_size=decisions.recipe.batches.batch_size,
        parameters=computing_parameters(model),
        tokens=summary["tokens"],
        tokens_per_second=summary["tokens_per_second"],
        flops=summary["tokens"] * operations,
        flops_per_second=summary["tokens_per_second"] * operations,
        training_share=summary["seconds_training"] / limit,
        loss=summary["final_valid_loss"],
        bits_per_byte=summary["bits_per_byte"],
    )
