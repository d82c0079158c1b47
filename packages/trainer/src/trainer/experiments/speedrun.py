"""Training of a recipe of `nnscratch.speedrun`, which the apps pass in as `models`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.experiments.texts import MOVABLE, TokenFiles

if TYPE_CHECKING:
    from trainer.config import DtypeName, TrainConfig
    from trainer.loggers import Logger
    from trainer.records import Summary

COMPILED_FOLDER = "compiled"
"""Folder of compiled programs beside the token files, so that the next run need not compile them again."""
EVALUATED_TOKENS = 16_384
"""Least tokens in a batch of an evaluation; a CPU takes a quarter less time for each than in batches of 2,048."""
_SAVED_SHARE = 0.25  # of a limit, between two saves; on a CPU each writes tables of n-grams of 70 to 140 MB


class SpeedrunPackage(Protocol):
    """Recipes, and what follows from them; the module `nnscratch.speedrun` has all this and documents it."""

    SCHEDULE_STEPS: int
    choose: Callable[..., Any]
    in_passes_that_fit: Callable[..., Any]
    learn_ngrams: Callable[..., None]
    learning_rate_schedule: Callable[..., Callable[[int], float]]
    make_loss: Callable[..., Callable[..., Any]]
    make_model: Callable[..., Any]
    make_optimizer: Callable[..., Any]
    momentum_schedule: Callable[..., Callable[[int], float] | None]
    to_record: Callable[..., dict[str, Any]]
    weight_decay_schedule: Callable[..., Callable[[int], float] | None]


def seconds_between_saves(time_limit_seconds: float | None) -> float:
    """Return the seconds from one save of a run to the next."""
    return 60.0 if time_limit_seconds is None else max(1.0, min(60.0, _SAVED_SHARE * time_limit_seconds))


def train_config(
    models: SpeedrunPackage,
    recipe: Any,
    *,
    time_limit_seconds: float | None,
    steps: int | None,
    device: str,
    dtype: DtypeName,
    separator_id: int | None,
) -> TrainConfig:
    """Return the trainer's settings, for a number of optimizer steps, or if `steps` is None for a time limit.

    `separator_id` is the id of the token between documents.
    """
    from trainer.config import TrainConfig

    ticks = steps or models.SCHEDULE_STEPS
    eval_interval = max(1, ticks // recipe.evaluations.count)
    return TrainConfig(
        steps=ticks,
        clock="time" if steps is None else "steps",
        time_limit_seconds=time_limit_seconds,
        batch_size=recipe.batches.batch_size,
        context_length=recipe.model.context_length,
        eval_batch_size=max(recipe.batches.batch_size, EVALUATED_TOKENS // recipe.model.context_length),
        sampling=recipe.batches.sampling,
        separator_id=separator_id if recipe.batches.sampling == "documents" else None,
        max_grad_norm=recipe.optimizer.max_grad_norm,
        eval_interval=eval_interval,
        eval_tokens=recipe.evaluations.evaluated_windows * recipe.model.context_length + 1,
        log_interval=max(1, eval_interval // 10),
        checkpoint_interval=None,
        checkpoint_seconds=seconds_between_saves(time_limit_seconds),
        seed=recipe.seed,
        device=device,
        dtype=dtype,
        compile=recipe.compile,
        batch_ramp=recipe.batches.batch_ramp,
        average_from=recipe.schedule.average_from,
        average_decay=recipe.schedule.average_decay,
    )


def train(
    models: SpeedrunPackage,
    recipe: Any,
    files: TokenFiles,
    tokenizer: Any,
    run_dir: Path,
    *,
    time_limit_seconds: float | None = None,
    steps: int | None = None,
    device: str,
    dtype: DtypeName = "auto",
    loggers: Sequence[Logger],
    sample: Callable[[Any, int], Any],
    recorded: Mapping[str, Any],
    changeable: Collection[str] = (),
    spent: Callable[[], float] = lambda: 0.0,
    seconds_of_earlier_sessions: float = 0.0,
) -> tuple[Any, Summary]:
    """Train a recipe in its final sizes for a time limit, or for a number of steps.

    An interrupted run in `run_dir` is resumed with its remaining time.

    Args:
        models: The module `nnscratch.speedrun`.
        recipe: The recipe.
        files: The texts.
        tokenizer: Their tokenizer.
        run_dir: The run.
        time_limit_seconds: Time limit, which includes the final validation and its records.
        steps: Optimizer steps, if there is no time limit.
        device: Device to train on.
        dtype: Dtype of the matrix products.
        loggers: As for `trainer.Trainer`.
        sample: As for `trainer.Trainer`.
        recorded: What the app records besides the recipe and the texts.
        changeable: Names in `recorded` that may change when a run resumes.
        spent: Returns the seconds of the limit that this process has spent.
        seconds_of_earlier_sessions: Seconds that earlier processes have spent.

    Returns:
        The trained model and the summary.

    Raises:
        ValueError: If the limit is too short, or the directory holds another run.
        trainer.TrainingInterrupted: If a signal such as SIGINT or SIGTERM came; everything is saved.
    """
    import torch

    from trainer import TokenDataset, Trainer, resolve_dtype
    from trainer.distributed import read_ranks, resolve_process_device
    from trainer.training.compilation import keep_compiled_programs

    if recipe.compile == "on":
        keep_compiled_programs(files.train.parent / COMPILED_FOLDER)
    files.copy_tokenizer(run_dir)
    torch.manual_seed(recipe.seed)
    where = resolve_process_device(device, read_ranks())
    model = models.make_model(recipe, tokenizer.vocab_size, where)
    text = TokenDataset(files.train)
    models.learn_ngrams(model, text.tokens)  # in a resumed run the checkpoint has the same n-grams
    ticks = steps or models.SCHEDULE_STEPS
    summary = Trainer(
        model,
        models.make_optimizer(model, recipe, resolve_dtype(dtype, where)),
        models.make_loss(recipe, tokenizer.encode("\0")[0]),  # a byte that occurs in no text
        text,
        TokenDataset(files.valid),
        train_config(
            models,
            recipe,
            time_limit_seconds=time_limit_seconds,
            steps=steps,
            device=device,
            dtype=dtype,
            separator_id=tokenizer.eot_id,
        ),
        models.learning_rate_schedule(recipe, ticks),
        run_dir,
        list(loggers),
        weight_decay_schedule=models.weight_decay_schedule(recipe, ticks),
        momentum_schedule=models.momentum_schedule(recipe, ticks),
        sample=sample,
        recorded={"recipe": models.to_record(recipe), **recorded, **files.recorded(run_dir)},
        changeable=(*changeable, *MOVABLE),
        flops_per_token=recipe.flops_per_token(tokenizer.vocab_size),
        seconds_before=spent(),
        seconds_of_earlier_sessions=seconds_of_earlier_sessions,
    ).fit()
    return model, summary
