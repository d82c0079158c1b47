"""The command line: `python -m owt_leaderboard --time-limit 1.5h`."""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from owt_leaderboard.clock import process_age
from owt_leaderboard.recipes import RECIPES, RecipeName
from owt_leaderboard.training import WandbMode


@dataclass(frozen=True)
class Flags:
    """Train the best model that a time limit allows, and print its validation loss."""

    time_limit: str = "1.5h"
    """Wall-clock time from the start of the process to the final validation, as 1.5h, 45m or 90s. Only the preparation
    of the data does not count."""
    recipe: RecipeName = "baseline"
    """What to train; "baseline" is the assignment's main experiment."""
    dataset: str = "sample"
    """"sample" (articles composed here, no network needed), "owt" (the course's sample of OpenWebText from the
    Hugging Face hub, 12 GB unpacked, downloaded once) or the path of a text file (.txt, .gz, .zst) whose documents are
    separated by <|endoftext|>."""
    valid_dataset: Path | None = None
    """Validation text; without it the last documents of --dataset are held out."""
    valid_bytes: int = 0
    """Use only the first documents of the validation text, up to this many bytes; 0 uses all of it."""
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


def _run(flags: Flags) -> None:
    from dataclasses import replace

    from bpe import prepare
    from owt_leaderboard.datasets import resolve
    from owt_leaderboard.training import train
    from trainer import parse_duration, resolve_device

    limit = parse_duration(flags.time_limit)
    recipe = replace(RECIPES[flags.recipe](resolve_device(flags.device).type), seed=flags.seed)
    begin = process_age()
    texts = resolve(flags.dataset, flags.valid_dataset, flags.valid_bytes or None, flags.data_dir, print)
    preparation = prepare(
        texts.train,
        texts.valid,
        vocab_size=recipe.vocab_size,
        directory=flags.data_dir,
        notify=print,
        digests=texts.digests,
    )
    preparing = process_age() - begin
    name = Path(flags.dataset).name.split(".")[0]
    run_dir = flags.out or Path("runs", f"owt-{flags.recipe}-{name}-{flags.time_limit}")
    print(f"data prepared in {preparing:.1f} s, which do not count; {limit:,.0f} s for everything else, in {run_dir}")
    summary = train(
        recipe,
        preparation,
        run_dir,
        time_limit_seconds=limit,
        seconds_before=process_age() - preparing,
        device=flags.device,
        wandb=flags.wandb,
    )
    if summary.final_valid_loss is None:
        print(f"\nNo validation loss: {summary.status} at step {summary.diverged_at_step}")
        return
    print(
        f"\nValidation loss {summary.final_valid_loss:.4f} (whole validation text, windows of {recipe.context_length})"
    )
    print(f"perplexity {summary.perplexity:.2f}, bits per byte {summary.bits_per_byte:.4f}, {summary.tokens:,} tokens")
    print(f"{process_age() - preparing:.1f} s of {limit:,.0f} s used by this process, data preparation aside")
    print(f"Records: {run_dir}   learning curve: {run_dir / 'loss.png'}   text: {run_dir / 'samples.jsonl'}")


def _print_notice(message: Warning | str, *_: object) -> None:
    """Warnings are for users here: one line, without the place in the code."""
    print(f"notice: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the process's exit code: 0 done, 2 wrong input, 130 interrupted."""
    flags = tyro.cli(Flags, args=arguments, prog="python -m owt_leaderboard")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_notice  # type: ignore[assignment]
            for category in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            _run(flags)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__name__ != "TrainingInterrupted":  # by name, because importing it would import torch
            raise
        print(error, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
