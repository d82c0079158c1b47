"""Small runs in forked processes, and the comparison of two of them: what the other checks of this folder share."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends import backend_agg  # noqa: F401 - imported here once, and not by every process
from safetensors.torch import load_file
from torch import (
    _dynamo,  # noqa: F401 - the same; optimizers need it
    nn,
)

from trainer import read_metrics
from trainer.checkpoints.directory import verify

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from bigram_run import VOCAB_SIZE, loss_fn, make_trainer
from forked import ForkedProcess

__all__ = ["damages", "differences", "loss_fn", "start"]

OF_THE_CLOCK = ("second", "memory_bytes", "clock")
"""Parts of the names of values that depend on the clock."""


def make_model(width: int) -> nn.Module:
    """Return a model with dropout, so that random states matter."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(VOCAB_SIZE, 64), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, VOCAB_SIZE)
    )


def write_sample(model: nn.Module, step: int) -> str:
    """Return a sample that depends on the random states."""
    return f"{step}: {torch.rand(())}"


def start(
    run_dir: Path, output: Path, width: int, before: Callable[[], None] = lambda: None, **arguments: Any
) -> ForkedProcess:
    """Make or resume a run in a forked process, which treats warnings as errors.

    Args:
        run_dir: Run directory.
        output: Base name of the files that receive the standard output and the standard error.
        width: Width of the model.
        before: Function that the process calls first.
        arguments: Arguments for `make_trainer`.
    """

    def train() -> None:
        os.chdir(run_dir.parent)  # no repository, whose state every run would record
        torch.set_num_threads(1)
        warnings.simplefilter("error")
        before()
        make_trainer(run_dir, model=make_model(width), sample=write_sample, **arguments).fit()

    return ForkedProcess(train, output)


def differences(run_dir: Path, whole: Path) -> list[str]:
    """Return in what two finished runs differ, apart from what depends on the clock, and what is wrong with the first.

    Args:
        run_dir: The run to check.
        whole: A run that was left alone.
    """
    found = []
    name = max((whole / "checkpoints").iterdir()).name
    if not (run_dir / "checkpoints" / name).is_dir():
        return [f"no last checkpoint {name}"]
    ours, theirs = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (run_dir, whole))
    if not _same(ours, theirs):
        found.append("weights")
    for file in ("optimizer.pt", "state.pt"):
        if not _same(*(torch.load(run / "checkpoints" / name / file) for run in (run_dir, whole))):
            found.append(file)
    if not _same(*map(read_metrics, (run_dir, whole))):
        found.append("metrics")
    if not _same(*(json.loads((run / "summary.json").read_text()) for run in (run_dir, whole))):
        found.append("summary")
    if len({(run / "samples.jsonl").read_text() for run in (run_dir, whole)}) > 1:
        found.append("samples")
    if different := set.symmetric_difference(*map(_files, (run_dir, whole))):
        found.append(f"files {', '.join(sorted(different))}")
    return found + damages(run_dir)


def damages(run_dir: Path) -> list[str]:
    """Return everything in the folder of the checkpoints that is no intact checkpoint."""
    found = []
    for path in (run_dir / "checkpoints").glob("*"):
        if not re.fullmatch(r"step_\d{7}", path.name):
            found.append(f"leftover {path.name}")
            continue
        try:
            verify(path)
        except (OSError, ValueError) as error:
            found.append(f"{path.name}: {error}")
    return found


def _files(run_dir: Path) -> set[str]:
    """Return the names in a run directory, without records of other configurations."""
    return {path.name for path in run_dir.iterdir() if not path.name.startswith("earlier-")}


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
