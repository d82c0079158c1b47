"""Command `python -m owt_leaderboard.fixed_steps`: train for a number of steps instead of a time limit."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from nnscratch.speedrun import RecipeName
from owt_leaderboard.commands.shared import DataFlags, check_least, check_machine, chosen_recipe, command
from owt_leaderboard.run import check_beginning, train
from trainer.experiments.texts import prepared_by_one
from trainer.support.command_line import print_once


@dataclass(frozen=True)
class Flags:
    """Train a recipe for a number of steps, and print its validation loss; no time limit, and no entry.

    The same command resumes an interrupted run.
    """

    steps: int
    """Optimizer steps."""
    recipe: RecipeName = "speedrun"
    """Recipe to train, in the sizes that it names: there is no budget to choose them by."""
    set: tuple[str, ...] = ()
    """Changes of the recipe, as for `python -m owt_leaderboard`."""
    seed: int = 0
    out: Path | None = None
    """Run directory; by default runs/owt-RECIPE-NAME-STEPS-steps."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from bpe import Tokenizer
    from trainer import ConsoleLogger

    check_least("steps", flags.steps)
    data = flags.data
    given = ("sized_by_budget=False", *flags.set)  # sizes are checked as those of the run, and not as placeholders
    recipe = replace(chosen_recipe(flags.recipe, data, given, flags.seed), sized_by_budget=False)
    check_machine(data, recipe, None)
    run_dir = flags.out or Path("runs", f"owt-{flags.recipe}-{data.name}-{flags.steps}-steps")
    check_beginning(recipe, run_dir, data.device)
    files = prepared_by_one(data.device, lambda: data.prepare(recipe.model.vocab_size))
    tokenizer = Tokenizer.from_pretrained(files.tokenizer)
    loggers = [ConsoleLogger()]
    _, summary = train(recipe, files, tokenizer, run_dir, steps=flags.steps, device=data.device, loggers=loggers)
    if summary.final_valid_loss is None:
        print_once(f"\nNo validation loss: {summary.status} at step {summary.diverged_at_step}")
        return 1
    print_once(f"\nValidation loss {summary.final_valid_loss:.4f} after {summary.tokens:,} tokens   records: {run_dir}")
    return 0


main = command(Flags, _run, "owt_leaderboard.fixed_steps")
