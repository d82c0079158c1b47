"""Command line of `python -m nnscratch.accounting`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, get_args

from nnscratch.accounting import tables
from nnscratch.accounting.memory import OPTIMIZER_TENSORS
from nnscratch.accounting.presets import GPT2, LONG_CONTEXT
from nnscratch.config import SIZES, FeedForward, Norm, Position, TransformerConfig

_DESCRIPTION = """\
Print parameters, floating-point operations (FLOP), memory and training time of a model.

Without options: the tables of assignment 1 of Stanford's CS336 (problems transformer_accounting and adamwAccounting)
for GPT-2 small to XL with a gated feed-forward network and a separate output layer. With --model: that model, in which
options of the architecture replace its own. Without --model all six sizes are required.
GB are 10^9 bytes. The cache holds the keys and values of one sequence in float32. FLOP are those of matrix products,
with attention over the whole square of positions."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 0, or 2 after a one-line error on stderr."""
    options = build_parser().parse_args(arguments)
    try:
        config = chosen_config(options)
        settings = tables.Training(**{item.name: getattr(options, item.name) for item in fields(tables.Training)})
        values, text = handout(settings) if config is None else one_model(options.model or "model", config, settings)
    except ValueError as error:
        print(f"nnscratch.accounting: error: {error}", file=sys.stderr)
        return 2
    try:
        print(text if options.format == "table" else json.dumps(values, indent=2), flush=True)
    except BrokenPipeError:
        # A reader such as `head` closed the pipe; without this the interpreter would fail again while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m nnscratch.accounting",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", choices=GPT2, help="one of the assignment's models")
    for name in SIZES:
        model.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    model.add_argument(
        "--num-kv-heads", type=int, metavar="N", help="heads of keys and values (default: as many as heads)"
    )
    model.add_argument("--head-size", type=int, metavar="N", help="width of a head (default: d_model / num_heads)")
    model.add_argument("--window", type=int, metavar="N", help="positions that one attends to (default: all)")
    model.add_argument("--ngram-rows", type=int, metavar="N", help="rows of each table of n-grams (default: no tables)")
    model.add_argument("--ngrams", type=int, nargs="+", metavar="N", help="lengths of these n-grams (default: 2 3)")
    model.add_argument("--ffn", choices=get_args(FeedForward), help="kind of feed-forward network (default: swiglu)")
    model.add_argument("--norm", choices=get_args(Norm), help="place of the norms (default: pre)")
    model.add_argument("--position", choices=get_args(Position), help="position information (default: rope)")
    for name, meaning in (
        ("tie-embeddings", "share one matrix between embedding and output layer"),
        ("qkv-bias", "add a bias to queries, keys and values"),
        ("qk-norm", "normalize queries and keys"),
    ):
        model.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=f"{meaning} (default: no)")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--batch-size", type=int, default=1024, metavar="N", help="sequences per step (default: 1024)"
    )
    training.add_argument("--steps", type=int, default=400_000, metavar="N", help="updates (default: 400000)")
    training.add_argument("--optimizer", choices=OPTIMIZER_TENSORS, default="adamw", help="default: adamw")
    training.add_argument(
        "--bytes-per-value", type=int, default=4, metavar="N", help="of parameters, gradients, activations (default: 4)"
    )
    training.add_argument("--memory-gb", type=float, default=80.0, metavar="GB", help="of the device (default: 80)")
    training.add_argument(
        "--flops-per-second", type=float, default=19.5e12, metavar="F", help="of the device (default: 19.5e12)"
    )
    training.add_argument(
        "--checkpoint-blocks", action="store_true", help="keep the inputs of blocks, and compute blocks twice"
    )
    training.add_argument("--mfu", type=float, default=0.5, metavar="U", help="achieved share of it (default: 0.5)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    return parser


def chosen_config(options: argparse.Namespace) -> TransformerConfig | None:
    """Return the model that the options describe, or None if they describe none.

    Raises:
        ValueError: If sizes are missing or out of range.
    """
    given: dict[str, Any] = {
        item.name: tuple(value) if isinstance(value, list) else value
        for item in fields(TransformerConfig)
        if (value := getattr(options, item.name, None)) is not None
    }
    if options.model:
        return replace(GPT2[options.model], **given)
    if not given:
        return None
    if missing := [f"--{name.replace('_', '-')}" for name in SIZES if name not in given]:
        raise ValueError(f"the model lacks {', '.join(missing)}; add them, or start from a --model")
    return TransformerConfig(**given)


def handout(settings: tables.Training) -> tuple[dict[str, Any], str]:
    """Return the tables of the assignment as values and as text."""
    models = {name: tables.model_report(config) for name, config in GPT2.items()}
    largest = GPT2["gpt2-xl"]
    long = tables.model_report(replace(largest, context_length=LONG_CONTEXT))
    training = tables.training_report(largest, settings)
    text = "\n\n".join(
        (
            tables.sizes({**models, "gpt2-xl, long": long}),
            "gpt2-xl\n" + tables.parameters(models["gpt2-xl"]),
            "gpt2-xl, forward pass of one sequence\n" + tables.products(models["gpt2-xl"]),
            f"gpt2-xl, {LONG_CONTEXT:,} tokens\n" + tables.products(long),
            "gpt2-xl, training\n" + tables.training(training),
        )
    )
    return {"models": models, "long_context": {"gpt2-xl": long}, "training": {"gpt2-xl": training}}, text


def one_model(name: str, config: TransformerConfig, settings: tables.Training) -> tuple[dict[str, Any], str]:
    """Return the tables of one model as values and as text."""
    model = tables.model_report(config)
    training = tables.training_report(config, settings)
    text = "\n\n".join(
        (
            tables.sizes({name: model}),
            tables.parameters(model),
            "forward pass of one sequence\n" + tables.products(model),
            "training\n" + tables.training(training),
        )
    )
    return {"models": {name: model}, "training": {name: training}}, text


if __name__ == "__main__":
    sys.exit(main())
