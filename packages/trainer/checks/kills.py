"""Kill a training run with SIGKILL again and again, and compare its end with that of a run that was left alone.

Every second kill waits until one of the next checkpoints is half written; the others come at any moment, some of them
before the first step. With --ramp, steps grow twice, windows are read without replacement, and weights are averaged.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TrainConfig, Trainer, read_metrics

VOCAB_SIZE, WIDTH = 500, 1000
STEPS, CHECKPOINT_INTERVAL = 2000, 15
LONGEST_SECONDS = 2.0
WRITING_SECONDS = 0.04
MOST_CHECKPOINTS = 4
OF_THE_CLOCK = ("second", "memory_bytes", "clock")


# Early, so that kills come before, between and after the changes.
RAMP = {"batch_ramp": ((0.0, 1), (0.04, 2), (0.1, 4)), "sampling": "shuffled", "average_from": 0.07}


def train(run_dir: Path, settings: dict[str, Any]) -> None:
    """Make or resume the run: a model with dropout, whose checkpoints have 12 MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(VOCAB_SIZE, WIDTH), nn.Dropout(0.1), nn.Linear(WIDTH, VOCAB_SIZE))
    tokens = (np.cumsum(np.random.default_rng(0).integers(1, 4, size=20_000)) % VOCAB_SIZE).astype(np.uint16)
    config = TrainConfig(
        steps=STEPS,
        batch_size=4,
        context_length=16,
        checkpoint_interval=CHECKPOINT_INTERVAL,
        eval_interval=100,
        log_interval=10,
        device="cpu",
        **settings,
    )
    calls = []

    def loss_fn(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if model.training and not calls:
            calls.append(1)
            print("training", flush=True)
        return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    print("ready", flush=True)
    Trainer(
        model,
        torch.optim.AdamW(model.parameters()),
        loss_fn,
        tokens[:19_000],
        tokens[19_000:],
        config,
        lambda step: 1e-3 * (1 - step / STEPS),
        run_dir,
        loggers=[],
    ).fit()


def start(run_dir: Path, until: str, options: list[str]) -> subprocess.Popen[bytes]:
    """Start a process that trains, and return when it prints "ready" or "training"."""
    command = [sys.executable, __file__, "--train", str(run_dir), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while process.stdout.readline().decode().strip() not in (until, ""):
        pass
    return process


def half_written(run_dir: Path) -> set[str]:
    """Return the checkpoints that are half written: one, if any."""
    return {path.name for path in (run_dir / "checkpoints").glob(".aside-step_*")}


def kill_once(run_dir: Path, moments: random.Random, options: list[str], *, while_writing: bool) -> tuple[bool, bool]:
    """Train for a while and kill; return whether there was something to kill, and whether a checkpoint was cut."""
    if while_writing:
        process = start(run_dir, "training", options)
        wanted, seen = moments.randint(1, MOST_CHECKPOINTS), set[str]()
        while process.poll() is None and len(seen) < wanted:
            seen |= half_written(run_dir)
            time.sleep(0.001)
        time.sleep(moments.uniform(0, WRITING_SECONDS))
    else:
        process = start(run_dir, moments.choice(["ready", "training", "training"]), options)
        time.sleep(moments.uniform(0, LONGEST_SECONDS))
    process.kill()
    return process.wait() != 0, bool(half_written(run_dir))


def compare(run_dir: Path, whole: Path) -> list[str]:
    """Return the differences between two finished runs, apart from what depends on the clock."""
    different = []
    name = f"checkpoints/step_{STEPS:07}"
    ours, theirs = (load_file(run / name / "model.safetensors") for run in (run_dir, whole))
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
        different.append("weights")
    states = [torch.load(run / name / "state.pt") for run in (run_dir, whole)]
    if not _same(*states):
        different.append("optimizer, random states or counts")
    records = [read_metrics(run) for run in (run_dir, whole)]
    if not _same(*records):
        different.append("metrics")
    return different


def _same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        names = [name for name in first if not any(word in str(name) for word in OF_THE_CLOCK)]
        return first.keys() == second.keys() and all(_same(first[name], second[name]) for name in names)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    return first == second


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ramp", action="store_true", help="with a batch ramp and averaged weights")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(arguments.train, RAMP if arguments.ramp else {})
        return
    options = ["--ramp"] if arguments.ramp else []
    moments, cut = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as directory:
        run_dir, whole = Path(directory, "killed"), Path(directory, "whole")
        for number in range(1, arguments.kills + 1):
            was_training, was_writing = kill_once(run_dir, moments, options, while_writing=number % 2 == 0)
            if not was_training:
                sys.exit(
                    f"the run was finished before kill {number}: expected {arguments.kills} kills; give it more steps"
                )
            cut += was_writing
            paths = (run_dir / "checkpoints").glob("step_*")
            latest = max((int(path.name.removeprefix("step_")) for path in paths), default=0)
            print(
                f"kill {number}: checkpoint of step {latest}{', another half written' if was_writing else ''}",
                flush=True,
            )
        for run in (run_dir, whole):
            if start(run, "ready", options).wait() != 0:
                sys.exit(f"the last process failed in {run}")
        if different := compare(run_dir, whole):
            sys.exit(f"after {arguments.kills} kills these differ: {', '.join(different)}")
        count = len(read_metrics(whole))
    print(
        f"{arguments.kills} kills, {cut} of them in the middle of a checkpoint: {STEPS} steps and {count} records agree"
    )


if __name__ == "__main__":
    main()
