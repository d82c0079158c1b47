"""One time-boxed run: model, optimizer and a schedule that follows the clock."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from owt_leaderboard.recipes import Recipe

if TYPE_CHECKING:
    from bpe import Preparation
    from trainer import Summary

WandbMode = Literal["auto", "online", "offline", "disabled"]
SCHEDULE_STEPS = 10_000  # the schedule's resolution: the clock moves it from step 0 to this one
SAMPLE_TOKENS = 64
EXIT_SECONDS = 2.0  # of the limit, kept for what comes after the last record: printing, and the interpreter's end


def learning_rate_schedule(recipe: Recipe) -> Callable[[int], float]:
    """Warm-up and cosine over `SCHEDULE_STEPS` ticks of the clock."""
    from nnscratch import cosine_schedule

    def schedule(tick: int) -> float:
        return cosine_schedule(
            tick + 1,  # the first update happens at tick 0, and a rate of zero would waste it
            max_lr=recipe.learning_rate,
            min_lr=recipe.learning_rate / 10,
            warmup_steps=round(SCHEDULE_STEPS * recipe.warmup_fraction),
            decay_steps=SCHEDULE_STEPS,
        )

    return schedule


def train(
    recipe: Recipe,
    preparation: "Preparation",
    run_dir: Path,
    *,
    time_limit_seconds: float,
    seconds_before: float,
    device: str,
    wandb: WandbMode = "disabled",
) -> "Summary":
    """Train until the time is used up, the final validation and its records included.

    Args:
        recipe: what to train.
        preparation: tokenizer and token files.
        run_dir: where the records go; a run that was interrupted there goes on with the time it has left.
        time_limit_seconds: the whole limit.
        seconds_before: what this process has spent of it already.
        device: "auto" or a device name.
        wandb: whether the records also go to Weights & Biases; its last uploads come after the limit.

    Raises:
        ModuleNotFoundError: wandb is asked for and not installed.
        ValueError: the limit is too short, or the directory holds another run.
        trainer.TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
    """
    if time_limit_seconds <= EXIT_SECONDS:
        raise ValueError(f"the time limit is {time_limit_seconds:g} s: expected more than {EXIT_SECONDS:g} s")
    import torch
    from torch import nn

    from nnscratch import AdamW, TransformerConfig, TransformerLM, flops_per_token, generate
    from trainer import ConsoleLogger, Logger, TokenDataset, TrainConfig, Trainer, WandbLogger

    loggers: list[Logger] = [ConsoleLogger()]
    if wandb != "disabled":
        loggers.append(WandbLogger(wandb, project=os.environ.get("WANDB_PROJECT", "owt-leaderboard")))
    tokenizer = preparation.tokenizer
    torch.manual_seed(recipe.seed)
    model = TransformerLM(
        TransformerConfig(
            vocab_size=tokenizer.vocab_size,
            context_length=recipe.context_length,
            d_model=recipe.d_model,
            num_layers=recipe.num_layers,
            num_heads=recipe.num_heads,
            d_ff=recipe.d_ff,
            rope_theta=recipe.rope_theta,
        )
    )
    config = TrainConfig(
        steps=SCHEDULE_STEPS,
        clock="time",
        time_limit_seconds=time_limit_seconds - EXIT_SECONDS,
        batch_size=recipe.batch_size,
        context_length=recipe.context_length,
        max_grad_norm=recipe.max_grad_norm,
        eval_interval=SCHEDULE_STEPS // recipe.evaluations,
        log_interval=SCHEDULE_STEPS // recipe.evaluations // 2,
        checkpoint_interval=SCHEDULE_STEPS // recipe.evaluations,
        checkpoint_seconds=60.0,
        seed=recipe.seed,
        device=device,
    )

    def sample(module: nn.Module, step: int) -> str:
        start = torch.tensor([[tokenizer.eot_id]], device=next(module.parameters()).device)
        token_ids = generate(
            cast(TransformerLM, module),
            start,
            max_new_tokens=SAMPLE_TOKENS,
            temperature=0.8,
            top_p=0.95,
            seed=recipe.seed,
        )
        return tokenizer.decode(token_ids[0, 1:].tolist())

    return Trainer(
        model,
        AdamW(model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay),
        lambda module, inputs, targets: cast(TransformerLM, module).loss(inputs, targets),
        TokenDataset(preparation.train_tokens),
        TokenDataset(preparation.valid_tokens),
        config,
        learning_rate_schedule(recipe),
        run_dir,
        loggers,
        sample=sample,
        recorded={"recipe": asdict(recipe), "tokenizer": str(preparation.tokenizer_directory.resolve())},
        flops_per_token=flops_per_token(model.config, backward=True),
        seconds_before=seconds_before,
    ).fit()
