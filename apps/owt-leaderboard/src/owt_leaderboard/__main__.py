"""The command line: `python -m owt_leaderboard --time-limit 1.5h`."""

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from owt_leaderboard.budget.clock import process_age
from owt_leaderboard.recipe.recipes import RECIPES, RecipeName
from owt_leaderboard.run.training import WandbMode
from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Train the best model that a time limit allows, and print its validation loss."""

    time_limit: str = "1.5h"
    """Wall-clock time from the start of the process to its end, as 1.5h, 45m or 90s. Only the preparation of the data
    does not count."""
    recipe: RecipeName = "speedrun"
    """What to train; "baseline" is the assignment's main experiment."""
    dataset: str = "sample"
    """"sample" (articles composed here, no network needed), "owt" (the course's sample of OpenWebText from the
    Hugging Face hub, 12 GB unpacked, downloaded once) or the path of a text file (.txt, .gz, .zst) whose documents are
    separated by <|endoftext|>."""
    valid_dataset: Path | None = None
    """Validation text; without it the last documents of --dataset are held out."""
    valid_bytes: int = 0
    """Use only the first documents of the validation text, up to this many bytes; 0 uses all of it."""
    set: tuple[str, ...] = ()
    """Changes of the recipe, such as num_layers=6 d_model=384 muon_learning_rate=0.03 qk_norm=False; sizes that are
    given here are not chosen by the budget."""
    out: Path | None = None
    """Run directory; by default runs/owt-RECIPE-NAME-LIMIT."""
    data_dir: Path = Path("data")
    """Where tokenizers and token files are kept, to be found again."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""
    seed: int = 0
    wandb: WandbMode = "disabled"
    """Records to Weights & Biases, too: "auto" only if a key is configured, "offline" for a later `wandb sync`; needs
    packages/trainer[wandb]. What is left to upload at the end does not count."""


def _run(flags: Flags) -> int:
    from dataclasses import replace

    from owt_leaderboard.budget.sizing import SIZE_NAMES
    from owt_leaderboard.recipe.overrides import changed, names_of
    from owt_leaderboard.run.timed_run import TimedRun, prepared_by_one
    from owt_leaderboard.texts.datasets import prepare_data
    from trainer import parse_duration, resolve_device

    tell = print if os.environ.get("RANK", "0") == "0" else _nothing
    limit = parse_duration(flags.time_limit)
    recipe = RECIPES[flags.recipe](resolve_device(flags.device).type)
    recipe = replace(changed(recipe, flags.set), seed=flags.seed)
    where = (flags.dataset, flags.valid_dataset, flags.valid_bytes or None, flags.data_dir)
    data, preparing = prepared_by_one(flags.device, lambda: prepare_data(*where, recipe.vocab_size, print))
    name = Path(flags.dataset).name.split(".")[0]
    run_dir = flags.out or Path("runs", f"owt-{flags.recipe}-{name}-{flags.time_limit}")
    tell(f"data prepared in {preparing:.1f} s, which do not count; {limit:,.0f} s for everything else, in {run_dir}")
    summary = TimedRun(
        recipe=recipe,
        fixed=frozenset(names_of(flags.set) & set(SIZE_NAMES)),
        run_dir=run_dir,
        time_limit_seconds=limit,
        spent=lambda: process_age() - preparing,
        device=flags.device,
        wandb=flags.wandb,
        notify=tell,
    ).run(data)
    if summary.final_valid_loss is None:
        tell(f"\nNo validation loss: {summary.status} at step {summary.diverged_at_step}")
        return 1
    tell(
        f"\nValidation loss {summary.final_valid_loss:.4f} (whole validation text, windows of {recipe.context_length})"
    )
    bits = "not known" if summary.bits_per_byte is None else f"{summary.bits_per_byte:.4f}"
    tell(f"perplexity {summary.perplexity:.2f}, bits per byte {bits}, {summary.tokens:,} tokens")
    tell(f"{process_age() - preparing:.1f} s of {limit:,.0f} s used by this process, data preparation aside")
    tell(f"Entry: {run_dir / 'entry.md'}   learning curve: {run_dir / 'entry.png'}   records: {run_dir}")
    return 0


def _nothing(line: str) -> None:
    """What all processes but the first tell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the process's exit code: 0 done, 1 diverged; of failures that of `run_command`."""
    flags = tyro.cli(Flags, args=arguments, prog="python -m owt_leaderboard")
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    exit_code = main()
    gc.freeze()  # the limit covers the exit too, and a last garbage collection of torch's objects takes seconds
    sys.exit(exit_code)
