"""Time training steps of the recipes and of transformers' Llama in the same sizes, and print the ratios.

    python benchmarks/run.py [--device auto] [--layers 4 --width 128 --windows 16] [--switches] [--updates]
        [--run-limit 5m]

A step is a forward pass, a backward pass and the update, eager or compiled as the trainer does it. The two models take
turns, and figures are medians. MFU is relative to a large matrix product measured in the same run. --switches adds the
cost of each switch of the speedrun, --updates the time of its update, and --run-limit a whole run of the app, in which
evaluations, checkpoints and compilation count.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from nnscratch.speedrun import (
    SIZE_NAMES,
    Recipe,
    baseline,
    changed,
    flops_per_token,
    learn_ngrams,
    make_model,
    make_optimizer,
    resized,
    speedrun,
    to_record,
    with_settings,
)
from owt_leaderboard.variants import variants
from trainer import resolve_device, resolve_dtype
from trainer.devices.devices import autocast, device_name, synchronize
from trainer.devices.host_memory import keep_freed_memory
from trainer.distributed import Parallel, Processes
from trainer.records import flatten
from trainer.training.compilation import CompiledUpdate, raise_failure

Step = Callable[[], object]
# Variants that do not change a step.
_OF_THE_WHOLE_RUN = (
    *("average_from", "moving_average", "masked_inputs", "cosine", "trapezoid", "batch_ramp"),
    *("random", "shuffled", "documents"),
)


def side_by_side(ours: Step, theirs: Step, rounds: int, device: torch.device) -> tuple[float, float]:
    """Return the median seconds of both, after two rounds that warm up or compile."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for step, times in zip((ours, theirs), seconds, strict=True):
            synchronize(device)
            began = time.perf_counter()
            step()
            synchronize(device)
            if number >= 2:
                times.append(time.perf_counter() - began)
    return median(seconds[0]), median(seconds[1])


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a large matrix product, best of ten."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = min(side_by_side(lambda: a @ b, lambda: None, 1, device)[0] for _ in range(10))
    return 2 * size**3 / seconds


def compiled_update(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Step:
    """Return the update as the trainer compiles it."""
    parallel = Parallel(model, optimizer, Processes(), device)
    return CompiledUpdate(parallel, resolve_dtype("auto", device), raise_failure).make


def training_step(
    model: nn.Module,
    loss_of: Callable[..., torch.Tensor],
    optimizer: torch.optim.Optimizer,
    tokens: torch.Tensor,
    compiled: bool,
) -> Step:
    """Return a step that repeats forward pass, backward pass and update on the same tokens."""
    device = tokens.device
    dtype = resolve_dtype("auto", device)
    update: Step = optimizer.step
    if compiled:
        loss_of = torch.compile(loss_of, dynamic=False)
        if not isinstance(optimizer, torch.optim.AdamW):  # AdamW is fused already
            update = compiled_update(model, optimizer, device)

    def step() -> None:
        with autocast(device, dtype):
            loss = loss_of(tokens, tokens)
        loss.backward()
        update()
        optimizer.zero_grad(set_to_none=True)

    return step


def recipe_step(recipe: Recipe, tokens: torch.Tensor, compiled: bool) -> Step:
    """Return a step of one of our recipes."""
    torch.manual_seed(0)
    model = make_model(recipe, recipe.model.vocab_size, tokens.device)
    learn_ngrams(model, tokens.flatten().cpu().numpy())
    optimizer = make_optimizer(model, recipe, resolve_dtype("auto", tokens.device))
    return training_step(model, model.loss, optimizer, tokens, compiled)


def llama_step(recipe: Recipe, tokens: torch.Tensor, compiled: bool) -> Step:
    """Return a step of transformers' Llama, which has the baseline's architecture, with torch's fused AdamW."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=recipe.model.vocab_size,
        hidden_size=recipe.model.d_model,
        intermediate_size=recipe.model.d_ff,
        num_hidden_layers=recipe.model.num_layers,
        num_attention_heads=recipe.model.num_heads,
        max_position_embeddings=recipe.model.context_length,
        rope_theta=recipe.model.rope_theta,
        attn_implementation="sdpa",
        use_cache=False,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(tokens.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.optimizer.learning_rate, fused=True)

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return model(input_ids=inputs, labels=targets).loss

    return training_step(model, loss_of, optimizer, tokens, compiled)


def print_row(name: str, ours: float, theirs: float, note: str = "") -> None:
    """Print milliseconds and their ratio."""
    print(f"{name:38}{1e3 * ours:10.1f} ms{1e3 * theirs:10.1f} ms{ours / theirs:8.2f}  {note}".rstrip(), flush=True)


def recipes_beside_llama(
    recipes: dict[str, Recipe], tokens: torch.Tensor, modes: list[str], rounds: int, peak: float
) -> None:
    """Print the table of whole steps."""
    print(f"{'':38}{'ours':>13}{'transformers':>13}{'ratio':>8}")
    for mode in modes:
        for name, recipe in recipes.items():
            torch.compiler.reset()
            compiled = mode == "compiled"
            steps = recipe_step(recipe, tokens, compiled), llama_step(recipes["baseline"], tokens, compiled)
            ours, theirs = side_by_side(*steps, rounds, tokens.device)
            per_second = tokens.numel() / ours
            used = per_second * flops_per_token(recipe.model, backward=True) / peak
            print_row(f"{name}, {mode}", ours, theirs, f"{per_second:,.0f} tokens/s, MFU {used:.1%}")


def switches(recipe: Recipe, tokens: torch.Tensor, rounds: int) -> None:
    """Print the time of an eager step with one switch of the speedrun changed."""
    print(f"{'':38}{'variant':>13}{'speedrun':>13}{'ratio':>8}")
    for name, settings in list(variants(recipe).items())[1:]:
        if name.removeprefix("no_") not in _OF_THE_WHOLE_RUN:
            steps = recipe_step(changed(recipe, settings), tokens, False), recipe_step(recipe, tokens, False)
            print_row(name, *side_by_side(*steps, rounds, tokens.device))


def updates(recipe: Recipe, tokens: torch.Tensor, rounds: int) -> None:
    """Print the time of the update, eager and with each optimizer as one compiled graph."""
    print(f"{'':38}{'compiled':>13}{'plain':>13}{'ratio':>8}")
    torch.compiler.reset()
    torch.manual_seed(0)
    model = make_model(recipe, recipe.model.vocab_size, tokens.device)
    learn_ngrams(model, tokens.flatten().cpu().numpy())
    model.loss(tokens, tokens).backward()
    optimizer = make_optimizer(model, recipe, resolve_dtype("auto", tokens.device))
    compiled = compiled_update(model, optimizer, tokens.device)
    print_row("update", *side_by_side(compiled, optimizer.step, rounds, tokens.device))


def whole_run(recipe: Recipe, limit: str, device: torch.device, peak: float) -> None:
    """Print the speed and MFU of a whole run of the app, on the articles that it composes."""
    values = flatten(to_record(recipe))
    settings = ["sized_by_budget=False", *(f"{name}={values[name]}" for name in SIZE_NAMES)]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "owt_leaderboard", "--time-limit", limit, "--device", str(device)]
        command += ["--dataset", "sample", "--out", f"{directory}/run", "--data-dir", f"{directory}/data"]
        command += ["--set", *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the run failed:\n{done.stderr}")
        summary: dict[str, Any] = json.loads(Path(directory, "run", "summary.json").read_text("utf-8"))
        vocab_size = json.loads(next(Path(directory, "data").glob("*/train.json")).read_text("utf-8"))["vocab_size"]
    operations = flops_per_token(replace(recipe.model, vocab_size=vocab_size), backward=True)
    total, speed = summary["seconds_total"], summary["tokens_per_second"]
    print(
        f"run of {limit}: {summary['tokens']:,} tokens, {speed:,.0f} tokens/s in training, MFU "
        f"{speed * operations / peak:.1%}; of all {total:.1f} s {summary['tokens'] * operations / total / peak:.1%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--layers", type=int, help="by default the recipe's")
    parser.add_argument("--width", type=int, help="by default the recipe's")
    parser.add_argument("--windows", type=int, help="in a step; by default the recipe's, on a GPU 128 at most")
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--switches", action="store_true", help="also time each switch of the speedrun")
    parser.add_argument("--updates", action="store_true", help="also time the speedrun's update, compiled and eager")
    parser.add_argument("--run-limit", help="also make a whole run of this length")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = resolve_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()  # as the trainer does
    dtype = resolve_dtype("auto", device)
    full = speedrun(device.type)
    layers, width = options.layers or full.model.num_layers, options.width or full.model.d_model
    # A forward pass of a run on a GPU with 80 GB has as many; eager steps have to fit, too.
    windows = options.windows or min(full.batches.batch_size, 128)
    settings = {"sized_by_budget": False, "batches.masked_inputs": 0.0, "batches.batch_size": windows}
    settings |= {"model.context_length": full.model.context_length}
    recipes = {
        name: with_settings(resized(recipe, layers, width), settings)
        for name, recipe in (("baseline", baseline(device.type)), ("speedrun", full))
    }
    tokens = torch.randint(full.model.vocab_size, (windows, full.model.context_length), device=device)
    peak = matrix_peak(device, dtype)
    print(
        f"torch {torch.__version__}, {device_name(device)}, {torch.get_num_threads()} threads, {dtype}: "
        f"{peak / 1e12:,.2f} TFLOP/s measured; {layers} layers x {width}, vocabulary {full.model.vocab_size:,}, "
        f"steps of {windows} windows of {full.model.context_length}"
    )
    recipes_beside_llama(recipes, tokens, options.modes, options.rounds, peak)
    if options.switches:
        switches(recipes["speedrun"], tokens, options.rounds)
    if options.updates:
        updates(recipes["speedrun"], tokens, options.rounds)
    if options.run_limit:
        whole_run(recipes["speedrun"], options.run_limit, device, peak)


if __name__ == "__main__":
    main()
