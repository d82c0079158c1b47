"""A small text, and settings small enough to learn from it within seconds."""

import importlib
import os
from pathlib import Path

import pytest

TINY = (
    "vocab_size=300",
    "context_length=16",
    "d_model=16",
    "num_layers=1",
    "num_heads=2",
    "d_ff=40",
    "batch_size=2",
    "evaluations=2",
    "evaluated_windows=5",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


PRELOADED = [
    "torch._dynamo",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "bpe.tokenizer",
    "nnscratch.transformer",
    "nnscratch.generation.decoding",
    "trainer.trainer",
    "owt_leaderboard.__main__",
]


def preload():
    """Import what takes seconds on a machine with other work, before a short time limit begins."""
    for name in PRELOADED:
        importlib.import_module(name)


PATIENCE = (1, 3, 9)
"""How many times its seconds a run gets, one after the other, where so much of fewer was stolen (`was_disturbed`)."""


def stolen_seconds():
    """Seconds that this machine's processors were taken away by the machine that it is a guest of (proc(5)), all added.

    What a run is late by that, no reserve can know of beforehand. 0 where nobody counts them.
    """
    try:
        return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 0.0


def was_disturbed(stolen_before):
    """Whether processors were taken away since then: only that excuses a run from the first of its limits."""
    return stolen_seconds() - stolen_before >= 1


def write_articles(path, number=300):
    articles = [f"The town of Number {i} opened its {i % 7}th bridge on day {i * 3}." for i in range(number)]
    path.write_text("".join(f"{article}\n<|endoftext|>\n" for article in articles), "utf-8")
    return path


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Whatever a command writes by default lands in the test's own folder, not in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path):
    return write_articles(tmp_path / "articles.txt")
