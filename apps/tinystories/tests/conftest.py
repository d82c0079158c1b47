"""A small text and the flags that make every command finish in a second or two."""

import os
import signal
from dataclasses import replace

import pytest

# Models of these sizes are no faster with more threads, and much slower where something else has the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
from browser import browser as browser
from browser import chromium as chromium

from tinystories.recipes import cpu_quick

# Who starts the tests in the background has them ignore Ctrl-C, and every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = replace(
    cpu_quick(),
    vocab_size=300,
    context_length=16,
    d_model=16,
    num_layers=1,
    num_heads=2,
    d_ff=40,
    steps=4,
    batch_size=4,
    evaluations=1,
)
SMALL = (
    "--vocab-size 300 --context-length 16 --d-model 16 --num-layers 2 --num-heads 2 --d-ff 40 "
    "--steps 8 --batch-size 4 --evaluations 2"
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Whatever a command writes by default lands in the test's own folder, not in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw nothing: pictures took most of the time of these small experiments, and have tests of their own."""
    monkeypatch.setattr("tinystories.reporting.pictures.style.rendered", lambda drawing, theme, form: b"")
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)


@pytest.fixture
def text(tmp_path):
    """A text file of 60 short stories."""
    names = ["Mia", "Tom", "Ben", "Lily", "Sam"]
    stories = [f"{names[i % 5]} had {i} red balls. {names[(i + 1) % 5]} took one home." for i in range(60)]
    path = tmp_path / "stories.txt"
    path.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories), "utf-8")
    return path


@pytest.fixture
def flags(text, tmp_path):
    """Flags for a small run on that text: `command + flags`."""
    return ["--dataset", str(text), "--data-dir", str(tmp_path / "data"), "--device", "cpu", *SMALL.split()]
