"""Command `python -m owt_leaderboard`: train within a time limit."""

import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from nnscratch.speedrun import Recipe, RecipeName, given_sizes
from owt_leaderboard.budget import doubted_age, process_age
from owt_leaderboard.commands.shared import (
    DataFlags,
    RatesSource,
    budget_flops,
    check_machine,
    chosen_recipe,
    command,
    stored_rates,
)
from owt_leaderboard.run import TimedRun, WandbMode, check_beginning, first_limit, is_recipe_of
from trainer.experiments.texts import prepared_by_one
from trainer.support.command_line import print_once


@dataclass(frozen=True)
class Flags:
    """Train the best model that a time limit allows, and print its validation loss."""

    time_limit: str = "1.5h"
    """Wall-clock time from the start of the process to its end, such as 90s. The course allows 1.5h of one H100 (2025)
    or 45m of one B200 (2026). Only the preparation of the data does not count."""
    recipe: RecipeName = "speedrun"
    """Recipe to train; "baseline" is the assignment's main experiment."""
    set: tuple[str, ...] = ()
    """Changes to the recipe, such as num_layers=6 d_model=384 optimizer.normuon=True; the budget leaves sizes given
    here unchanged."""
    rates: RatesSource = "tuned"
    """"tuned" uses the learning rates that `python -m owt_leaderboard.tune` has stored for this text and type of
    device, if there are any, except those given by --set. "recipe" does not. A resumed run keeps its rates."""
    out: Path | None = None
    """Run directory; by default runs/owt-RECIPE-NAME-LIMIT."""
    seed: int = 0
    wandb: WandbMode = "disabled"
    """Also send records to Weights & Biases: "auto" only if a key is configured, "offline" for a later `wandb sync`;
    needs packages/trainer[wandb]. Uploads left at the end do not count towards the time limit."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from trainer import TokenDataset, parse_duration
    from trainer.loggers import check_wandb

    limit, data = parse_duration(flags.time_limit), flags.data
    run_dir = flags.out or Path("runs", f"owt-{flags.recipe}-{data.name}-{flags.time_limit}")
    recipe = _recipe(flags, limit, run_dir)
    check_machine(data, recipe, limit)
    check_beginning(recipe, run_dir, data.device)
    check_wandb(flags.wandb)
    if (doubt := doubted_age()) is not None:
        print_once(doubt)
    began = time.perf_counter()
    data = data.for_limit(first_limit(run_dir) or limit)  # a run that goes on keeps its validation text
    files = prepared_by_one(data.device, lambda: data.prepare(recipe.model.vocab_size))
    preparing = time.perf_counter() - began
    print_once(f"data prepared in {preparing:.1f} s (not counted); {limit:,.0f} s for everything else, in {run_dir}")
    summary = TimedRun(
        recipe=recipe,
        fixed=given_sizes(flags.set),
        run_dir=run_dir,
        time_limit_seconds=limit,
        spent=lambda: process_age() - preparing,
        device=data.device,
        is_text_given=data.dataset is not None,
        wandb=flags.wandb,
        notify=print_once,
        rates=stored_rates(flags.rates, files, data.device_type, recipe, flags.set),
    ).run(files)
    if summary.final_valid_loss is None:
        print_once(f"\nNo validation loss: {summary.status} at step {summary.diverged_at_step}")
        return 1
    tokens = f"the first {len(TokenDataset(files.valid)):,} tokens of the validation text"
    windows = f"windows of {recipe.model.context_length}"
    print_once(f"\nValidation loss {summary.final_valid_loss:.4f} ({tokens}, {windows})")
    bits = "unknown" if summary.bits_per_byte is None else f"{summary.bits_per_byte:.4f}"
    print_once(f"perplexity {summary.perplexity:.2f}, bits per byte {bits}, {summary.tokens:,} tokens")
    print_once(
        f"{process_age() - preparing:.1f} s of {limit:,.0f} s used by this process, data preparation not counted"
    )
    print_once(f"Entry: {run_dir / 'entry.md'}   learning curve: {run_dir / 'entry.png'}   records: {run_dir}")
    return 0


def _recipe(flags: Flags, limit: float, run_dir: Path) -> Recipe:
    """Return the recipe for the budget, or that of the run in the directory, which may have begun with another one."""
    words = flags.recipe, flags.data, flags.set, flags.seed
    recipe = chosen_recipe(*words, flops=budget_flops(flags.data, limit))
    others = (chosen_recipe(*words, flops=flops) for flops in (0.0, inf))
    fixed = given_sizes(flags.set)
    return next((other for other in others if is_recipe_of(run_dir, other, fixed)), recipe)


main = command(Flags, _run, "owt_leaderboard")
