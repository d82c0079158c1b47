"""Trial of a recipe before a run: some steps of the real training, with its compiler, evaluations and checkpoint."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nnscratch.speedrun import Recipe, with_settings
from owt_leaderboard.run.training import train
from owt_leaderboard.texts import TokenFiles

if TYPE_CHECKING:
    from bpe import Tokenizer

LEAST_STEPS, MOST_STEPS = 6, 30
_STEP_SECONDS = 40.0
_FIRST_STEPS = 3
"""Steps that are not measured: the first two compile, and the third may warm up."""
_EVALUATED_BATCHES = 8


@dataclass(frozen=True)
class Trial:
    """Measurements of a trial."""

    steps: int
    tokens_per_second: float
    """Median over steps after the first three."""
    evaluated_per_second: float
    """Tokens per second of an evaluation of a few batches, which the trainer does not compile."""
    seconds_compiling: float
    """Compiling loss and update, and comparing them with the eager ones."""
    peak_memory_bytes: int | None


class TrialFailedError(RuntimeError):
    """The compiler failed in the trial, its results differ from the eager ones, or the loss was not finite."""


def trial_steps(recipe: Recipe, tokens_per_second: float) -> int:
    """Return the number of steps that take about 40 s at this speed; at least 6 and at most 30."""
    tokens = recipe.batches.batch_size * recipe.batches.mean_passes * recipe.model.context_length
    return max(LEAST_STEPS, min(MOST_STEPS, int(_STEP_SECONDS * tokens_per_second / tokens)))


def run_trial(
    recipe: Recipe, files: TokenFiles, tokenizer: "Tokenizer", device: str, directory: Path, steps: int
) -> Trial:
    """Train a recipe in its final sizes for some steps, in a temporary directory and without masked inputs.

    Args:
        recipe: The recipe.
        files: The texts; of the validation text, only a few batches are read.
        tokenizer: Their tokenizer.
        device: The device of the run.
        directory: Existing directory, in which the temporary one is made.
        steps: Optimizer steps.

    Raises:
        TrialFailedError: If the compiler fails, the trainer finds its results wrong, or a loss is not finite.
    """
    import numpy as np

    from trainer import TokenDataset, read_metrics
    from trainer.training.compilation import CompilationError

    length = recipe.model.context_length
    valid = TokenDataset(files.valid)
    windows = min((len(valid) - 1) // length, _EVALUATED_BATCHES * recipe.batches.batch_size)
    settings = {
        "evaluations.count": 1,
        "evaluations.evaluated_windows": windows,
        "schedule.average_from": None,
        "schedule.average_decay": None,
        "batches.masked_inputs": 0.0,  # drawn at random, so the trainer could not compare compiled gradients
    }
    with tempfile.TemporaryDirectory(dir=directory, prefix="preflight-") as folder:
        part = Path(folder, "valid.npy")
        np.save(part, valid.tokens[: windows * length + 1])
        try:
            _, summary = train(
                with_settings(recipe, settings),
                replace(files, valid=part),
                tokenizer,
                Path(folder, "run"),
                steps=steps,
                device=device,
                loggers=[],
            )
        except CompilationError as error:
            cause = str(error.__cause__).strip().partition("\n")[0]  # the rest is in a file that is removed
            raise TrialFailedError(f"torch.compile failed ({cause})") from error
        if summary.diverged_at_step is not None:
            raise TrialFailedError(f"the loss or the gradient of step {summary.diverged_at_step} is not finite")
        records = read_metrics(Path(folder, "run"))
    return _measured(records, windows * length, summary.steps, summary.peak_memory_bytes)


def _measured(records: list[dict[str, Any]], evaluated: int, steps: int, peak_memory: int | None) -> Trial:
    trained = [record for record in records if record["event"] == "train"]
    first, *_, last = (record["seconds_total"] for record in records if record["event"] == "eval")
    end = trained[-1]
    return Trial(
        steps=steps,
        tokens_per_second=median(one["tokens_per_second"] for one in trained if one["step"] > _FIRST_STEPS),
        evaluated_per_second=evaluated / (last - end["seconds_total"]),
        seconds_compiling=max(0.0, end["seconds_total"] - first - end["seconds_training"]),
        peak_memory_bytes=peak_memory,
    )
