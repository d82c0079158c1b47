"""Train our recipe, nanoGPT's and nanochat's for equal minutes of a CPU, on the same text, with the same final measure.

    python benchmarks/cpu_minutes.py --peer nanochat --time-limit 2m --dataset train.txt --valid-dataset valid.txt
        [--seed 0] [--rates 16] [--results minutes.jsonl]
    python benchmarks/cpu_minutes.py --peer ours --time-limit 2m ... [-- --set num_layers=4]
    python benchmarks/cpu_minutes.py --table minutes.jsonl

A run appends a line of JSON to --results, and --table prints all of them as Markdown. `peers.py` has nanoGPT and
nanochat. "ours" and "tinystories" are the commands of the apps, which choose their own sizes; arguments after -- go to
them.

The limit covers the whole process from its start, imports and the final evaluation included, and only the preparation
of the text is left out, as in our app. The final evaluation is ours: the whole validation text in adjacent windows,
bits per byte without the bytes of separators. Its time is measured before training and reserved.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from peers import Nanochat, NanoGPT
from torch import Tensor

from owt_leaderboard.budget import process_age
from owt_leaderboard.commands.shared import DataFlags
from trainer import TokenDataset, evaluate, parse_duration, resolve_dtype
from trainer.data import TokenSplit
from trainer.devices import autocast
from trainer.devices.host_memory import keep_freed_memory
from trainer.experiments.speedrun import EVALUATED_TOKENS
from trainer.records import describe_environment, flatten
from trainer.support.command_line import run_command

CPU = torch.device("cpu")
MODELS = {"nanogpt": NanoGPT, "nanochat": Nanochat}
APPS = {"ours": ["owt_leaderboard", "--rates", "recipe"], "tinystories": ["tinystories.run", "train"]}
# Both peers have these sizes; ours chooses its own, with windows of 512 and a vocabulary of 4,096. Heads, windows in a
# step and all rates are those that each project publishes.
SIZES = {"layers": 4, "width": 128, "context": 128, "vocab_size": 2048}
COMMON = {**SIZES, "dtype": "auto", "compile": False, "rates": 1.0}
NANOGPT = {"heads": 4, "batch": 12, "weight_decay": 0.1, "learning_rate": 1e-3}
NANOCHAT = {"heads": 2, "batch": 32, "weight_decay": 0.2, "matrix_rate": 0.02, "embedding_rate": 0.3}
NANOCHAT |= {"head_rate": 0.008, "scalar_rate": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {"nanogpt": COMMON | NANOGPT, "nanochat": COMMON | NANOCHAT}
FLAGS = {name: type(value) for settings in SETTINGS.values() for name, value in settings.items()}
HELP = {
    "dtype": "auto (bfloat16 where the CPU has it), bfloat16 or float32",
    "compile": "torch.compile, nanoGPT's default; its README's command for a CPU does without",
    "rates": "factor of all rates",
    "batch": "windows in a step",
}
TIMED_TOKENS = 4 * EVALUATED_TOKENS
RESERVED = 1.15, 1.0  # factor and seconds: the speed of a machine varies, and the process has to end

Optimizers = list[torch.optim.Optimizer]
Model = NanoGPT | Nanochat


def flag(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def read_batches(tokens: np.ndarray, context: int, batch: int, seed: int, shuffled: bool) -> Iterator[list[Tensor]]:
    """Yield inputs and targets: windows with replacement, or all adjacent windows of each epoch in random order."""
    generator = np.random.default_rng(seed)
    starts = np.empty(0, np.int64)
    while True:
        while len(starts) < batch:
            more = generator.integers(len(tokens) - context, size=batch)
            if shuffled:
                offset = generator.integers(context)
                more = offset + context * generator.permutation((len(tokens) - offset - 1) // context)
            starts = np.concatenate((starts, more))
        windows = tokens[starts[:batch, None] + np.arange(context + 1)].astype(np.int64)
        starts = starts[batch:]
        yield [torch.from_numpy(part).contiguous() for part in (windows[:, :-1], windows[:, 1:])]


def train(
    model: Model,
    optimizers: Optimizers,
    batches: Iterator[list[Tensor]],
    share_of_time: Callable[[int], float],
    dtype: torch.dtype,
    compiled: bool = False,
) -> int:
    """Train until the share of the time is 1, which is asked for before each step, and return the number of steps."""
    loss_of = torch.compile(model.loss, dynamic=False) if compiled else model.loss
    steps = 0
    while (share := share_of_time(steps)) < 1:
        inputs, targets = next(batches)
        model.schedule(optimizers, steps, share)
        with autocast(CPU, dtype):
            loss = loss_of(inputs, targets)
        loss.backward()
        if model.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), model.max_grad_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        steps += 1
    return steps


def evaluation_of(model: Model, tokens: TokenSplit, context: int, dtype: torch.dtype) -> Any:
    """Return our evaluation of a model on a split."""
    rows = max(1, EVALUATED_TOKENS // context)
    return evaluate(model, tokens, context, batch_size=rows, loss_fn=lambda m, x, y: m.loss(x, y), dtype=dtype)


def evaluation_seconds(model: Model, tokens: TokenSplit, context: int, dtype: torch.dtype) -> float:
    """Return the seconds to reserve for the evaluation of a whole split, from its first tokens."""
    total, part = tokens.lengths[0], tokens.first(min(TIMED_TOKENS, tokens.lengths[0]), context)
    evaluation_of(model, tokens.first(min(EVALUATED_TOKENS, total), context), context, dtype)  # one-off costs
    began = time.perf_counter()
    evaluation_of(model, part, context, dtype)
    return RESERVED[0] * (time.perf_counter() - began) * total / part.lengths[0] + RESERVED[1]


def optimizers_of(model: Model, settings: dict[str, Any], dtype: torch.dtype) -> Optimizers:
    """Return a peer's optimizers, with all rates multiplied by the setting `rates`."""
    rates = {name: value * settings["rates"] for name, value in settings.items() if name.endswith("_rate")}
    if isinstance(model, NanoGPT):
        return model.make_optimizers(weight_decay=settings["weight_decay"], **rates)
    batch_tokens, compiled = settings["batch"] * settings["context"], settings["compile"]
    decay = settings["weight_decay"]
    return model.make_optimizers(weight_decay=decay, batch_tokens=batch_tokens, dtype=dtype, compiled=compiled, **rates)


def run_peer(peer: str, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Train nanoGPT or nanochat within the limit, and return the results."""
    limit, context = parse_duration(options.time_limit), settings["context"]
    began = time.perf_counter()
    text = DataFlags(options.dataset, options.valid_dataset, options.valid_bytes, options.data_dir)
    files = text.prepare(settings["vocab_size"])
    preparing = time.perf_counter() - began
    keep_freed_memory()  # as our app does; it speeds the peers up
    dtype = resolve_dtype(settings["dtype"], CPU)
    dataset, valid = TokenDataset(files.train), TokenSplit(TokenDataset(files.valid), "the validation text")
    torch.manual_seed(options.seed)
    sizes = {name: settings[name] for name in ("layers", "width", "heads", "context")}
    model = MODELS[peer](vocab_size=dataset.vocab_size, **sizes)
    reserved = evaluation_seconds(model, valid, context, dtype)
    starting, end = process_age() - preparing, limit - reserved
    if starting >= end:
        raise ValueError(
            f"--time-limit {options.time_limit}: the start takes {starting:.1f} s and the final evaluation "
            f"{reserved:.1f} s, so nothing is left to train; expected a longer limit, or fewer --valid-bytes"
        )
    first = starting

    def share_of_time(steps: int) -> float:
        """Return the share of the time after the first step, which may compile."""
        nonlocal first
        now = process_age() - preparing
        first = now if steps <= 1 else first
        return 1.0 if now >= end else (now - first) / (end - first)

    batches = read_batches(dataset.tokens, context, settings["batch"], options.seed, model.shuffled)
    steps = train(model, optimizers_of(model, settings, dtype), batches, share_of_time, dtype, settings["compile"])
    training = process_age() - preparing - first
    found = evaluation_of(model, valid, context, dtype)
    step_tokens = settings["batch"] * context
    return {
        "size": f"{settings['layers']} x {settings['width']}",
        "parameters": sum(param.numel() for param in model.parameters()),
        "steps": steps,
        "tokens": steps * step_tokens,
        "tokens_per_second": (steps - 1) * step_tokens / training,
        "loss": found.loss if math.isfinite(found.loss) else None,
        "bits_per_byte": found.bits_per_byte if math.isfinite(found.loss) else None,
        "seconds": process_age() - preparing,
        "environment": describe_environment(CPU, dtype, options.seed),
    }


def run_app(peer: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command of an app, and return its results."""
    words = ["--time-limit", options.time_limit, "--seed", str(options.seed), "--dataset", options.dataset]
    words += ["--data-dir", str(options.data_dir), "--valid-bytes", str(options.valid_bytes), "--device", "cpu"]
    words += [] if options.valid_dataset is None else ["--valid-dataset", str(options.valid_dataset)]
    if peer == "tinystories":
        if options.dataset == "sample":
            raise ValueError("--dataset sample is another text in tinystories: give --dataset PATH")
        if "--evaluations" not in options.app_arguments:  # it evaluates the same text every time, here all of it
            words += ["--evaluations", "1"]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        command = [sys.executable, "-m", *APPS[peer], *words, "--out", str(run_dir), *options.app_arguments]
        if code := subprocess.run(command, check=False).returncode:
            raise ValueError(f"the run of {peer} ended with exit code {code}; its messages are above")
        summary, config, environment = (
            json.loads((run_dir / f"{name}.json").read_text("utf-8")) for name in ("summary", "config", "environment")
        )
    recipe = {name.rpartition(".")[2]: value for name, value in flatten(config["recorded"]["recipe"]).items()}
    names = ("parameters", "steps", "tokens", "tokens_per_second", "bits_per_byte")
    return {
        "size": f"{recipe['num_layers']} x {recipe['d_model']}",
        **{name: summary[name] for name in names},
        "loss": summary["final_valid_loss"],
        "seconds": summary["seconds_total"],
        "environment": environment,
    }


def run_one(options: argparse.Namespace) -> int:
    """Make a run, print its result and append it to the results."""
    known = SETTINGS.get(options.peer, {})
    given = {name: value for name in FLAGS if (value := getattr(options, name)) is not None}
    if foreign := given.keys() - known.keys():
        names = ", ".join(map(flag, sorted(foreign)))
        raise ValueError(f"{names}: --peer {options.peer} has no such setting; the apps get theirs after --")
    if options.app_arguments and known:
        raise ValueError(f"{options.app_arguments} after --: expected no arguments there for --peer {options.peer}")
    settings = known | given
    found = run_peer(options.peer, settings, options) if known else run_app(options.peer, options)
    if git := found["environment"].get("git"):
        found["environment"]["git"] = {name: git[name] for name in ("commit", "dirty")}
    flags = [flag(name) + ("" if value is True else f" {value}") for name, value in given.items()]
    text = {"dataset": options.dataset, "valid_dataset": options.valid_dataset and str(options.valid_dataset)}
    line = {"peer": options.peer, "time_limit": parse_duration(options.time_limit), "seed": options.seed, **text}
    line |= {"valid_bytes": options.valid_bytes, "flags": " ".join([*flags, *options.app_arguments])}
    line |= {"settings": settings, **found}
    print(", ".join(f"{name} {line[name]}" for name in ("peer", "tokens", "bits_per_byte", "seconds")))
    if options.results:
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return 0


def table(lines: list[dict[str, Any]]) -> str:
    """Return results as Markdown: a table for each text, limit and machine, with a row for each peer and its flags."""
    tables: dict[tuple[Any, ...], dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for line in lines:
        environment = line["environment"]
        machine = f"{environment['device_name']}, {environment['threads']} threads, torch {environment['torch']}"
        where = line["time_limit"], line["dataset"], line["valid_dataset"], line["valid_bytes"], machine
        tables.setdefault(where, {}).setdefault((line["peer"], line["flags"]), []).append(line)
    printed = []
    for (limit, dataset, valid, valid_bytes, machine), rows in sorted(tables.items(), key=lambda item: str(item[0])):
        names = " and ".join(Path(path).name for path in (dataset, valid) if path)
        part = f", first {valid_bytes:,} bytes of validation" if valid_bytes else ""
        printed += [f"{limit:g} s, {names}{part}, {machine}:", ""]
        printed += [
            "| | flags | size | dtype | n | seconds | M tokens | tokens/s | bits per byte | spread | to our best |"
        ]
        printed += ["|:---|:---|:---|:---|---:|---:|---:|---:|---:|---:|---:|"]
        ours = [average for key in rows if key[0] == "ours" and (average := bits_of(rows[key])) is not None]
        for (peer, flags), found in sorted(rows.items(), key=lambda item: -(bits_of(item[1]) or math.inf)):
            printed.append(row_of(peer, flags, found, min(ours, default=None)))
        printed.append("")
    return "\n".join(printed).rstrip()


def bits_of(lines: list[dict[str, Any]]) -> float | None:
    """Return the mean bits per byte of runs, or None if one diverged."""
    bits = [line["bits_per_byte"] for line in lines]
    return None if None in bits else mean(bits)


def row_of(peer: str, flags: str, lines: list[dict[str, Any]], ours: float | None) -> str:
    """Return a row of the table: means over the runs, the longest time, and the lowest and highest bits per byte."""
    average = bits_of(lines)
    cells = ["diverged", "-", "-"]
    if average is not None:
        bits = [line["bits_per_byte"] for line in lines]
        spread = f"{min(bits):.4f} to {max(bits):.4f}" if len(bits) > 1 else "-"
        cells = [f"{average:.4f}", spread, "-" if ours is None else f"{average / ours:.3f}"]
    sizes = " / ".join(sorted({line["size"] for line in lines}))
    dtypes = " / ".join(sorted({line["environment"]["dtype"] for line in lines}))
    tokens, speed = (mean(line[name] for line in lines) for name in ("tokens", "tokens_per_second"))
    seconds = max(line["seconds"] for line in lines)
    numbers = [str(len(lines)), f"{seconds:.1f}", f"{tokens / 1e6:.2f}", f"{speed:,.0f}"]
    return f"| {' | '.join([peer, f'`{flags}`' if flags else '', sizes, dtypes, *numbers, *cells])} |"


def main(arguments: list[str] | None = None) -> int:
    """Make one run, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--peer", choices=(*MODELS, *APPS))
    what.add_argument("--table", type=Path, metavar="RESULTS", help="print a file of results as Markdown")
    parser.add_argument("--time-limit", default="2m")
    parser.add_argument("--dataset", default="sample", help="sample, owt, or the path of a text")
    parser.add_argument("--valid-dataset", type=Path)
    parser.add_argument("--valid-bytes", type=int, default=0, help="0: the whole validation text")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="file of JSON lines to append to")
    for name, kind in FLAGS.items():  # None: not given
        how = {"action": "store_true"} if kind is bool else {"type": kind}
        parser.add_argument(flag(name), default=None, help=HELP.get(name), **how)
    parser.add_argument("app_arguments", nargs="*", help="arguments for the app's command, after --")
    options = parser.parse_args(arguments)
    if options.table:
        lines = options.table.read_text("utf-8").splitlines()
        print(table([json.loads(line) for line in lines]))
        return 0
    return run_command(lambda: run_one(options))


if __name__ == "__main__":
    sys.exit(main())
