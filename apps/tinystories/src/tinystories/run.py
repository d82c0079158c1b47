"""The command line: `python -m tinystories.run COMMAND`. Commands only read flags, call, and print."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from tinystories.experiments import VARIANTS
from tinystories.flags import Ablations, Command, DataFlags, Evaluate, Generate, Prepare, Report, Train
from tinystories.training import SAMPLE_PROMPT

if TYPE_CHECKING:
    from bpe import Preparation


def _next(run_dir: Path) -> str:
    """The line that says what to do next, to be copied as it is: from a nox session with that session's Python."""
    found = shutil.which("python")
    inside = "NOX_CURRENT_SESSION" not in os.environ and found and Path(found).parent == Path(sys.executable).parent
    python = "python" if inside else os.path.relpath(sys.executable)
    return f'Next: {python} -m tinystories.run generate {run_dir} --prompt "{SAMPLE_PROMPT}"'


def _prepare(data: DataFlags, vocab_size: int) -> "tuple[str, Preparation]":
    """The data set's name, and its tokenizer and token files."""
    from bpe import prepare
    from tinystories.datasets import resolve

    texts = resolve(data.dataset, data.valid_dataset, data.valid_bytes or None, data.data_dir, print)
    preparation = prepare(
        texts.train,
        texts.valid,
        vocab_size=vocab_size,
        directory=data.data_dir,
        notify=print,
        digests=texts.digests,
    )
    return Path(data.dataset).name.split(".")[0], preparation


def _run_prepare(command: Prepare) -> int:
    _, preparation = _prepare(command.data, command.vocab_size)
    print(
        f"Tokenizer: {preparation.tokenizer_directory}\nTokens: {preparation.train_tokens}, {preparation.valid_tokens}"
    )
    return 0


def _run_train(command: Train) -> int:
    from tinystories.training import train

    recipe = VARIANTS[command.variant].change(command.recipe.recipe())
    _, preparation = _prepare(command.data, recipe.vocab_size)
    summary = train(recipe, preparation, command.out, command.machine.machine(), wandb=command.wandb)
    print(f"{summary.status}: records in {command.out}")
    print(_next(command.out))
    return 0


def _run_ablations(command: Ablations) -> int:
    from tinystories.sweeps import Run, run_all
    from tinystories.training import train

    recipe = command.recipe.recipe()
    machine = command.machine.machine()
    name, preparation = _prepare(command.data, recipe.vocab_size)
    out = command.out or Path("runs", f"ablations-{name}")
    variants = [VARIANTS[name] for name in command.variants]
    runs = [Run(variant.name, variant.change(recipe), out / variant.name) for variant in variants]
    print(f"{len(runs)} runs of {recipe.tokens:,} tokens each, records in {out}")
    failed = run_all(runs, lambda run: train(run.recipe, preparation, run.directory, machine), print)
    if len(failed) < len(runs):
        _run_report(Report(out), title=f"Ablations on {name}")
    for failure in failed:
        print(
            f"{failure} failed: see {out / failure / 'failure.json'}; the same command tries it again", file=sys.stderr
        )
    return 1 if failed else 0


def _run_evaluate(command: Evaluate) -> int:
    import tempfile

    from tinystories.training import load
    from trainer import TokenDataset, evaluate

    model, tokenizer = load(command.run, command.device)
    with tempfile.TemporaryDirectory() as directory:
        tokens = Path(directory, "text.npy")
        tokenizer.encode_file(command.text, tokens)
        dataset = TokenDataset(tokens)
        evaluation = evaluate(
            model, dataset.tokens, model.config.context_length, num_bytes=dataset.num_bytes, batch_size=16
        )
    bits = evaluation.bits_per_byte
    print(f"loss {evaluation.loss:.4f}  perplexity {evaluation.perplexity:.2f}  bits per byte {bits:.4f}")
    return 0


def _run_generate(command: Generate) -> int:
    from tinystories.training import load, write_story

    if command.samples < 1:
        raise ValueError(f"--samples {command.samples}: expected at least 1")
    model, tokenizer = load(command.run, command.device)
    for number in range(command.samples):
        if command.samples > 1:
            print(f"--- {number + 1} of {command.samples}")
        story = write_story(
            model,
            tokenizer,
            command.prompt,
            max_new_tokens=command.max_new_tokens,
            temperature=command.temperature,
            top_k=command.top_k,
            top_p=command.top_p,
            seed=command.seed + number,
        )
        print(story)
    return 0


def _run_report(command: Report, title: str | None = None) -> int:
    from tinystories.report import PICTURE, aligned, table, write_report
    from tinystories.results import finished_runs, read_result

    results = [read_result(path) for path in finished_runs(command.directory)]
    path = write_report(results, command.directory, title or f"Runs in {command.directory.name}")
    first = results[0].directory
    print(f"\n{aligned(table(results))}\n")
    print(f"Report: {path}\nLearning curves: {command.directory / PICTURE}")
    print(_next(first))
    return 0


RUNNERS: dict[type, Callable[..., int]] = {
    Prepare: _run_prepare,
    Train: _run_train,
    Ablations: _run_ablations,
    Evaluate: _run_evaluate,
    Generate: _run_generate,
    Report: _run_report,
}


def _print_notice(message: Warning | str, *_: object) -> None:
    """Warnings are for users here: one line, without the place in the code."""
    print(f"notice: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code: 0 done, 1 a run failed, 2 wrong input, 130 interrupted."""
    command: Command = tyro.cli(
        Command,
        args=arguments,
        prog="python -m tinystories.run",
        description="The TinyStories experiments of Stanford CS336's first assignment, one command each.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_notice  # type: ignore[assignment]
            for category in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            return RUNNERS[type(command)](command)
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


if __name__ == "__main__":
    raise SystemExit(main())
