"""Lower a training graph for an H100 that need not be present, and print its buffers, bytes and launches.

    python checks/lowered_for_cuda.py [--num-layers 12] [--d-model 1024] [--windows 128] [--qk-norm] [--loss-only]
                                       [--ffn relu_squared --d-ff 4096] [--model FILE.py:FUNCTION]

The loss of a `TransformerLM`, or of the model that a function returns, is traced forward and backward under bfloat16
autocast on fake tensors, which have shapes but no memory. The compiler of torch then writes the program for an H100,
and nothing is executed. The command fails if more than two buffers of a chunk's logits exist at once. Tested with torch
2.13.0 and Triton 3.7.1. Other versions may need other patches, because torch has no public way to compile for an absent
GPU.
"""

import argparse
import runpy
import sys
from functools import partial
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nnscratch import LanguageModel, TransformerConfig, TransformerLM, linear_cross_entropy
from nnscratch.accounting.lowering import HEAD_SIZE, Graph, LoweredPass, h100, lowered_passes, traced

MOST_LOGITS = 2


def make_model(options: argparse.Namespace, soft_cap: float) -> LanguageModel:
    """Return the model that the options describe, or that their function makes."""
    if options.model:
        path, _, function = options.model.rpartition(":")
        model: LanguageModel = runpy.run_path(path)[function]()
        return model
    config = TransformerConfig(
        vocab_size=options.vocab_size,
        context_length=options.context_length,
        d_model=options.d_model,
        num_layers=options.num_layers,
        num_heads=options.d_model // HEAD_SIZE,
        d_ff=options.d_ff or 64 * round(options.d_model / 24),
        ffn=options.ffn,
        qk_norm=options.qk_norm,
        logit_soft_cap=soft_cap or None,
    )
    return TransformerLM(config)


def loss_graphs(options: argparse.Namespace, soft_cap: float) -> tuple[list[Graph], TransformerConfig]:
    """Return the graphs of the training loss of a model, or of `linear_cross_entropy` alone, and the model's config."""
    with FakeTensorMode():
        model = make_model(options, soft_cap)
        config = model.config
        token_ids, targets = torch.zeros(2, options.windows, config.context_length, dtype=torch.int64)
        if not options.loss_only:
            return traced(model.loss, token_ids, targets), config
        hidden = torch.zeros(*targets.shape, config.d_model, requires_grad=True)
        weight = torch.zeros(config.vocab_size, config.d_model, requires_grad=True)
        loss = partial(linear_cross_entropy, logit_soft_cap=config.logit_soft_cap)
        return traced(loss, hidden, weight, targets), config


def row(config: TransformerConfig, lowered: LoweredPass) -> str:
    """Return the table row of a pass."""
    cap = f"{config.logit_soft_cap:g}" if config.logit_soft_cap else "none"
    size, ours = (number / lowered.tokens for number in (lowered.kernel_bytes, lowered.operator_bytes))
    return (
        f"| {cap} | {lowered.name} | {lowered.logits} | {lowered.wide_heads} | {size:,.0f} | {ours:,.0f} "
        f"| {lowered.triton} | {lowered.products} | {lowered.others} |"
    )


def main() -> None:
    """Lower the loss with each soft cap, and print one row per pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-layers", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=1024, help=f"width, a multiple of the head size {HEAD_SIZE}")
    parser.add_argument("--d-ff", type=int, help="inner width of the feed-forward networks; default 8/3 of --d-model")
    parser.add_argument("--ffn", choices=("swiglu", "silu", "relu_squared"), default="swiglu")
    parser.add_argument("--qk-norm", action="store_true", help="normalize queries and keys")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--windows", type=int, default=128, help="windows in a batch")
    parser.add_argument("--context-length", type=int, default=512, help="tokens in a window")
    parser.add_argument("--soft-caps", nargs="+", type=float, default=[0.0, 15.0], help="caps of the logits; 0: none")
    parser.add_argument(
        "--model",
        metavar="FILE.py:FUNCTION",
        help="lower the model that this function returns, a LanguageModel with a TransformerConfig, instead of the one "
        "that the options above describe; of them, --windows stays",
    )
    parser.add_argument("--loss-only", action="store_true", help="only the output layer and the loss, without a model")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the generated programs there")
    options = parser.parse_args()
    print(
        "| soft cap | pass | logits at once | float32 queries, keys | bytes per token | our operators' "
        "| Triton | products | others |"
    )
    print("|---:|:---|---:|---:|---:|---:|---:|---:|---:|")
    most = 0
    for soft_cap in [0.0] if options.model else options.soft_caps:  # a model has its own cap
        with h100():
            graphs, config = loss_graphs(options, soft_cap)
            passes = lowered_passes(graphs, config, options.windows * config.context_length)
        for lowered in passes:
            if options.save:
                options.save.mkdir(parents=True, exist_ok=True)
                path = options.save / f"{lowered.name}_{soft_cap:g}.py"
                path.write_text(lowered.program, encoding="utf-8")
            print(row(config, lowered), flush=True)
            most = max(most, lowered.logits)
    if most > MOST_LOGITS:
        sys.exit(f"{most} buffers of a chunk's logits exist at once, expected at most {MOST_LOGITS}; change the loss")


if __name__ == "__main__":
    main()
