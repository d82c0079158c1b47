"""One training run: the trainer's settings, and the training itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnscratch.speedrun import (
    SCHEDULE_STEPS,
    Recipe,
    learning_rate_schedule,
    make_loss,
    make_model,
    make_optimizer,
    momentum_schedule,
    to_record,
    weight_decay_schedule,
)
from owt_leaderboard.report import write_text
from owt_leaderboard.run.decisions import check_app
from owt_leaderboard.texts import TokenFiles
from trainer.experiments.texts import MOVABLE

if TYPE_CHECKING:
    from torch import nn

    from bpe import Tokenizer
    from nnscratch.speedrun.language_model import SpeedrunLM
    from trainer import Logger, Summary, TrainConfig

COMPILED_FOLDER = "compiled"
"""Folder of compiled programs beside the token files, so that the next run need not compile them again."""
EVALUATED_TOKENS = 16_384
"""Least tokens in a batch of an evaluation; a CPU takes a quarter less time for each than in batches of 2,048."""
SAMPLE_TOKENS = 32
"""Tokens of the text that the model writes at each evaluation."""


def train_config(
    recipe: Recipe, *, time_limit_seconds: float | None, steps: int | None, device: str, separator_id: int | None
) -> "TrainConfig":
    """Return the trainer's settings, for a number of optimizer steps, or if `steps` is None for a time limit.

    `separator_id` is the id of the token between documents.
    """
    from trainer import TrainConfig

    eval_interval = max(1, (steps or SCHEDULE_STEPS) // recipe.evaluations.count)
    return TrainConfig(
        steps=steps or SCHEDULE_STEPS,
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
        checkpoint_seconds=60.0 if time_limit_seconds is None else max(1.0, min(60.0, time_limit_seconds / 20)),
        seed=recipe.seed,
        device=device,
        compile=recipe.compile,
        batch_ramp=recipe.batches.batch_ramp,
        average_from=recipe.schedule.average_from,
    )


def train(
    recipe: Recipe,
    files: TokenFiles,
    tokenizer: "Tokenizer",
    run_dir: Path,
    *,
    time_limit_seconds: float | None = None,
    steps: int | None = None,
    whole_limit_seconds: float | None = None,
    spent: Callable[[], float] = lambda: 0.0,
    seconds_of_earlier_sessions: float = 0.0,
    device: str,
    loggers: "Sequence[Logger]",
) -> "tuple[SpeedrunLM, Summary]":
    """Train for a time limit, which includes the final validation and its records, or for a number of steps.

    An interrupted run in `run_dir` is resumed with its remaining time. The records name `whole_limit_seconds`, which
    includes the time for the entry and the end of the process, and may change. `spent` returns the seconds of the limit
    that this process has spent; earlier processes have spent `seconds_of_earlier_sessions`. Returns the trained model
    and the summary.

    Raises:
        ValueError: If the limit is too short, the directory holds another run, or several processes train tables of
            n-grams.
        trainer.TrainingInterrupted: If a signal such as SIGINT or SIGTERM came; everything is saved.
    """
    import torch

    from trainer import TokenDataset, Trainer, resolve_dtype
    from trainer.distributed.rank import read_ranks, resolve_process_device
    from trainer.training.compilation import keep_compiled_programs

    check_app(run_dir)
    if read_ranks().world_size > 1 and recipe.model.ngram_rows is not None:
        raise ValueError(
            f"ngram_rows is {recipe.model.ngram_rows} and several processes train, but DDP cannot exchange the sparse "
            "gradients of these tables: give --set ngram_rows=None, or train with one process"
        )
    if recipe.compile == "on":
        keep_compiled_programs(files.train.parent / COMPILED_FOLDER)
    files.copy_tokenizer(run_dir)
    torch.manual_seed(recipe.seed)
    where = resolve_process_device(device, read_ranks())
    model = make_model(recipe, tokenizer.vocab_size, where)

    def sample(module: "nn.Module", step: int) -> str:
        return write_text(model, tokenizer, SAMPLE_TOKENS, seed=recipe.seed)[0]

    summary = Trainer(
        model,
        make_optimizer(model, recipe, resolve_dtype("auto", where)),
        make_loss(recipe, tokenizer.encode("\0")[0]),  # a byte that occurs in no text
        TokenDataset(files.train),
        TokenDataset(files.valid),
        train_config(
            recipe,
            time_limit_seconds=time_limit_seconds,
            steps=steps,
            device=device,
            separator_id=tokenizer.eot_id,
        ),
        learning_rate_schedule(recipe, steps or SCHEDULE_STEPS),
        run_dir,
        list(loggers),
        weight_decay_schedule=weight_decay_schedule(recipe, steps or SCHEDULE_STEPS),
        momentum_schedule=momentum_schedule(recipe, steps or SCHEDULE_STEPS),
        sample=sample,
        recorded={"recipe": to_record(recipe), "time_limit_seconds": whole_limit_seconds, **files.recorded(run_dir)},
        changeable=("time_limit_seconds", *MOVABLE),
        flops_per_token=recipe.flops_per_token(tokenizer.vocab_size),
        seconds_before=spent(),
        seconds_of_earlier_sessions=seconds_of_earlier_sessions,
    ).fit()
    return model, summary
