"""The command `cluster`: its options, and its three parts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.progress import is_terminal
from bpe.text import END_OF_TEXT

if TYPE_CHECKING:
    from bpe.cluster import CountPretokens, EncodeShards

_SHARDS = "folder of shards, a path or a URL: texts (.txt, .gz, .zst) or tables (.jsonl, .jsonl.gz, .parquet)"


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add the parts of the command and their options."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")

    count = parts.add_parser("count", help="count the pre-tokens of the shards of a corpus")
    count.add_argument("input", help=_SHARDS)
    count.add_argument("output", help="folder for the counts")
    _add_special_tokens(count, END_OF_TEXT)
    count.add_argument(
        "--pattern",
        action="append",
        help="regular expression of a pre-token (default: GPT-2's); the next of several splits further what is left",
    )
    _add_executor(count)

    train = parts.add_parser("train", help="add up the counts of all shards, and train a tokenizer on them")
    train.add_argument("counts", help="folder that `cluster count` wrote to")
    train.add_argument(
        "--vocab-size", type=int, required=True, help="number of tokens: 256 bytes, merges, special tokens"
    )
    train.add_argument("-o", "--output", required=True, help="folder to write the tokenizer to")
    train.add_argument(
        "--min-count",
        type=int,
        default=1,
        help="leave out pre-tokens that occur less often, to save memory (default: 1, which is exact)",
    )
    _add_special_tokens(train, "those of the counts")

    encode = parts.add_parser("encode", help="encode every shard of a corpus to a token file")
    encode.add_argument("input", help=_SHARDS)
    encode.add_argument("output", help="folder for the token files")
    encode.add_argument("-t", "--tokenizer", required=True, help="folder of the tokenizer")
    add_token_file(encode)
    _add_executor(encode)


def add_token_file(parser: argparse.ArgumentParser) -> None:
    """Add the options of token files."""
    parser.add_argument("--format", choices=("npy", "llm.c", "megatron"), help="format of a token file (default: npy)")
    parser.add_argument(
        "--documents",
        action=argparse.BooleanOptionalAction,
        help="write an index of documents: first token, place in the text (default: for llm.c and Megatron)",
    )


def _add_special_tokens(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options of special tokens."""
    parser.add_argument(
        "--special-token", action="append", metavar="TOKEN", help=f"may be repeated (default: {default})"
    )
    parser.add_argument("--no-special-tokens", action="store_true", help="use no special tokens")


def _add_executor(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run on many machines."""
    parser.add_argument("--column", default="text", help="column of the texts of tables (default: text)")
    run = parser.add_argument_group("run")
    run.add_argument("--executor", choices=("local", "ray", "slurm"), default="local", help="default: local")
    run.add_argument(
        "--tasks", type=int, help="number of tasks to divide the shards into (default: one for each shard)"
    )
    run.add_argument("--workers", type=int, help="tasks at once (default: as the cores allow; Ray, Slurm: no limit)")
    run.add_argument("--threads", type=int, default=1, help="threads, and so CPUs, of each task (default: 1)")
    run.add_argument("--memory-per-cpu", type=int, default=2, help="gigabytes that Ray or Slurm reserves (default: 2)")
    run.add_argument("--logging-dir", help="folder of logs and markers of completed tasks (default: OUTPUT/logs)")
    slurm = parser.add_argument_group("Slurm")
    slurm.add_argument("--partition")
    slurm.add_argument("--time", help="time limit of a task, such as 4:00:00")
    slurm.add_argument("--environment", metavar="COMMAND", help="for example: source /shared/venv/bin/activate")
    slurm.add_argument(
        "--sbatch", action="append", default=[], metavar="NAME=VALUE", help="another option; may be repeated"
    )


def run(options: argparse.Namespace) -> None:
    """Run a part of the command.

    Raises:
        ValueError: If datatrove is missing, or an option is wrong.
    """
    try:
        import bpe.cluster  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "bpe":
            raise
        raise ValueError(
            f"the command cluster needs {error.name}, which is missing; run: pip install datatrove"
        ) from None
    {"count": _count, "train": _train, "encode": _encode}[options.part](options)


def _count(options: argparse.Namespace) -> None:
    """Count the pre-tokens of shards."""
    from bpe.cli.checks import check_can_be_saved, pattern, special_tokens
    from bpe.cluster import CountPretokens

    special = special_tokens(options)
    check_can_be_saved(pattern(options), special)
    step = CountPretokens(
        options.input,
        options.output,
        special_tokens=special,
        pattern=pattern(options),
        column=options.column,
        threads=options.threads,
    )
    _run(step, options)


def _train(options: argparse.Namespace) -> None:
    """Train a tokenizer on the counts of all tasks."""
    from bpe.cli.checks import check_can_be_saved, special_tokens
    from bpe.cluster import load_counts, open_folder, written_to
    from bpe.files import check_folder
    from bpe.tokenizer_training import train_from_counts
    from bpe.training import check_vocab_size

    output = open_folder(options.output)
    if output.is_local():
        check_folder(Path(output.resolve_paths("")))
    counts = load_counts(options.counts, options.min_count)
    special = special_tokens(options, counts.special_tokens or ())
    check_can_be_saved(counts.pattern, special)
    check_vocab_size(options.vocab_size, special)
    print(f"{len(counts):,} distinct pre-tokens, {counts.total:,} in all, {counts.total_bytes:,} bytes", flush=True)
    tokenizer = train_from_counts(counts, options.vocab_size, special, progress=is_terminal(sys.stderr))
    with written_to(output, "tokenizer.json") as path:
        tokenizer.save_pretrained(path.parent)
    print(f"{tokenizer.vocab_size:,} tokens ({len(tokenizer.merges):,} merges) written to {options.output}")


def _encode(options: argparse.Namespace) -> None:
    """Encode shards to token files."""
    from bpe.cluster import EncodeShards

    step = EncodeShards(
        options.input,
        options.output,
        options.tokenizer,
        format=options.format or "npy",
        documents=options.documents,
        column=options.column,
        threads=options.threads,
    )
    _run(step, options)


def _run(step: CountPretokens | EncodeShards, options: argparse.Namespace) -> None:
    """Run a step as the options say."""
    from bpe import cluster

    executor = cluster.make_executor(
        options.executor,
        step,
        tasks=options.tasks,
        workers=options.workers,
        memory_per_cpu=options.memory_per_cpu,
        logging_dir=options.logging_dir,
        slurm=_slurm(options),
    )
    cluster.run(executor)
    done = "complete" if getattr(executor, "job_id", -1) == -1 else "submitted to Slurm"
    print(f"{len(step.shards):,} shards in {executor.world_size:,} tasks {done}; output in {options.output}")


def _slurm(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the Slurm executor."""
    if options.executor != "slurm":
        if options.partition or options.time or options.environment or options.sbatch:
            raise ValueError(f"--partition, --time, --environment and --sbatch are for Slurm, not {options.executor}")
        return {}
    if not options.partition or not options.time:
        raise ValueError("--executor slurm needs --partition and --time; give both")
    others = {}
    for option in options.sbatch:
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise ValueError(f"--sbatch is {option!r}, expected NAME=VALUE, such as account=me")
        others[name.lstrip("-")] = value
    return {
        "partition": options.partition,
        "time": options.time,
        "env_command": options.environment,
        "sbatch_args": others,
    }
