"""`python -m owt_leaderboard.fixed_steps`: a run of so many optimizer steps, whatever else its machine does."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from owt_leaderboard.recipe.recipes import RECIPES, RecipeName
from owt_leaderboard.run.processes import DataFlags
from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Train a recipe for a number of steps, and print its validation loss; no time limit, and no entry.

    An interrupted run goes on with the same command.
    """

    steps: int
    """Optimizer steps."""
    recipe: RecipeName = "speedrun"
    """What to train, in the sizes that it names: there is no budget to choose them by."""
    set: tuple[str, ...] = ()
    """Changes of the recipe, as for `python -m owt_leaderboard`."""
    seed: int = 0
    out: Path | None = None
    """Run directory; by default runs/owt-RECIPE-NAME-STEPS-steps."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from dataclasses import replace

    from bpe import Tokenizer
    from owt_leaderboard.recipe.overrides import changed
    from owt_leaderboard.run.training import make_loggers, train
    from owt_leaderboard.texts.datasets import prepare_data
    from trainer import resolve_device

    if flags.steps < 1:
        raise ValueError(f"--steps {flags.steps}: expected 1 or more")
    recipe = changed(RECIPES[flags.recipe](resolve_device(flags.data.device).type), flags.set)
    recipe = replace(recipe, seed=flags.seed, sized_by_budget=False)
    texts = flags.data
    data = prepare_data(
        texts.dataset, texts.valid_dataset, texts.valid_bytes or None, texts.data_dir, recipe.vocab_size, print
    )
    run_dir = flags.out or Path("runs", f"owt-{flags.recipe}-{flags.data.name}-{flags.steps}-steps")
    tokenizer = Tokenizer.from_pretrained(data.tokenizer_directory)
    _, summary = train(
        recipe, data, tokenizer, run_dir, steps=flags.steps, device=flags.data.device, loggers=make_loggers("disabled")
    )
    if summary.final_valid_loss is None:
        print(f"\nNo validation loss: {summary.status} at step {summary.diverged_at_step}")
        return 1
    print(f"\nValidation loss {summary.final_valid_loss:.4f} after {summary.tokens:,} tokens   records: {run_dir}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the process's exit code: 0 done, 1 diverged; of failures that of `run_command`."""
    flags = tyro.cli(
        Flags, args=arguments, prog="python -m owt_leaderboard.fixed_steps", config=(tyro.conf.OmitArgPrefixes,)
    )
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
