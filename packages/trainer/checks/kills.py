"""Kill training runs with SIGKILL again and again, and compare their ends with those of runs that were left alone.

Each run is killed until one of its processes reaches the end. A kill comes at a random moment of the session, or of a
phase that it waits for: loading, training, an evaluation, a half-written checkpoint, pruning, or the end of the run.
The processes are forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from small_runs import differences, loss_fn, start
from torch import nn

from trainer.callbacks import Callback, RunState

WIDTH = 512  # checkpoints of 0.7 MB
SETTINGS: dict[str, Any] = {"steps": 150, "checkpoint_interval": 10, "eval_interval": 25, "keep_checkpoints": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    # Early changes, so that kills come before, between and after them.
    "ramp": {
        "batch_ramp": ((0.0, 1), (0.1, 2), (0.3, 4)),
        "sampling": "shuffled",
        "average_from": 0.5,
        "grad_accumulation_steps": 1,
    },
    "float16": {"dtype": "float16"},
    "changing": {},
}
CHANGES: dict[str, list[Any]] = {  # each session of the variant "changing" has other values
    "checkpoint_seconds": [None, 0.03],
    "keep_checkpoints": [1, 2, 4],
    "keep_checkpoint_every_seconds": [None, 0.3],
    "save_in_background": [True, False],
}
PHASES = ("starting", "loading", "training", "evaluating", "ending")
# Phases to wait for, how often in comparison, and the seconds in which the kill then comes.
MOMENTS = {
    "any": (3, 0.7),
    "loading": (2, 0.08),
    "training": (2, 0.1),
    "evaluating": (2, 0.01),
    "saving": (4, 0.015),
    "pruning": (3, 0.001),
    "ending": (1, 0.15),
}
POLL_SECONDS = 0.0002

phase = mmap.mmap(-1, 1)  # shared by the process that trains and the one that kills it


def enter(name: str) -> None:
    """Say in which phase this process is."""
    phase[0] = PHASES.index(name)


def loss_with_phase(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss, and say whether it is of training or of an evaluation."""
    enter("training" if model.training else "evaluating")
    return loss_fn(model, inputs, targets)


class Phases(Callback):
    """Says when an evaluation is over, and when the last step is made."""

    def on_step(self, state: RunState) -> None:
        """Say whether this was the last step."""
        if state.progress >= 1:
            enter("ending")

    def on_evaluation(self, state: RunState, evaluation: object, *, is_whole: bool) -> None:
        """Say what comes after an evaluation."""
        enter("ending" if state.progress >= 1 else "training")


def seen(run_dir: Path) -> set[str]:
    """Return "saving" if a checkpoint is half written, and "pruning" if one is half removed."""
    folder = run_dir / "checkpoints"
    names = os.listdir(folder) if folder.exists() else []  # noqa: PTH208 - the fastest
    latest = max((name for name in names if name.startswith("step_")), default="")
    aside = [name.removeprefix(".aside-").removeprefix("old-") for name in names if name.startswith(".aside-")]
    return {"saving" if name >= latest else "pruning" for name in aside}


def kill_once(run_dir: Path, moments: random.Random, settings: dict[str, Any]) -> str | None:
    """Train, and kill the process; return in which phase it was, or None if it reached the end before."""
    weights = [weight for weight, _ in MOMENTS.values()]
    [(wanted, (_, longest))] = moments.choices(list(MOMENTS.items()), weights)
    delay = moments.uniform(0, longest)
    enter("starting")
    process = start(
        run_dir,
        run_dir.with_suffix(".output"),
        WIDTH,
        lambda: enter("loading"),
        loss=loss_with_phase,
        callbacks=[Phases()],
        **settings,
    )
    while wanted not in ("any", PHASES[phase[0]], *seen(run_dir)) and process.is_alive():
        time.sleep(POLL_SECONDS)
    time.sleep(delay)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    code, _, errors = process.end()
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a process ended with {code}:\n{errors}")
    if code == 0:
        return None
    return next(iter(sorted(seen(run_dir))), PHASES[phase[0]])


def kill_until_finished(run_dir: Path, moments: random.Random, variant: str, most: int) -> list[str]:
    """Kill a run until it reaches its end, and at most so many times; return the phases of the kills."""
    phases: list[str] = []
    while True:
        changes = {name: moments.choice(values) for name, values in CHANGES.items()} if variant == "changing" else {}
        settings = SETTINGS | VARIANTS[variant] | changes
        if len(phases) == most:
            finish(run_dir, settings)
            return phases
        killed_in = kill_once(run_dir, moments, settings)
        if killed_in is None:
            return phases
        phases.append(killed_in)


def finish(run_dir: Path, settings: dict[str, Any]) -> None:
    """Train to the end."""
    code, _, errors = start(
        run_dir, run_dir.with_suffix(".output"), WIDTH, loss=loss_with_phase, callbacks=[Phases()], **settings
    ).end()
    if code != 0:
        sys.exit(f"the last process failed in {run_dir}:\n{errors}")


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    moments, phases, runs = random.Random(arguments.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as directory:
        whole = {variant: Path(directory, f"whole-{variant}") for variant in arguments.variants}
        for variant, run_dir in whole.items():
            finish(run_dir, SETTINGS | VARIANTS[variant])
        for variant in itertools.cycle(arguments.variants):
            if (left := arguments.kills - phases.total()) <= 0:
                break
            runs += 1
            run_dir = Path(directory, f"run-{runs}")
            killed_in = kill_until_finished(run_dir, moments, variant, left)
            phases.update(killed_in)
            if different := differences(run_dir, whole[variant]):
                sys.exit(f"run {runs} ({variant}), killed {len(killed_in)} times, differs: {', '.join(different)}")
            print(f"run {runs} ({variant}): as if not killed after {len(killed_in)} kills: {', '.join(killed_in)}")
    counts = ", ".join(f"{count} {name}" for name, count in phases.most_common())
    print(f"{phases.total()} kills of {runs} runs ({counts}): every run ended bit for bit like one left alone")


if __name__ == "__main__":
    main()
