"""Fixtures of all tests: folders of their own, a small text, flags of small runs, and a trained model."""

import os
import shutil
import signal
import threading

import pytest

# More threads do not speed up models of these sizes, and slow them down on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
from browser import browser as browser
from browser import chromium as chromium
from small_runs import small_flags, write_stories

from tinystories.run import main

# A process started in the background may ignore Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Run every test in a folder of its own, so that nothing is written into the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Train the runs of ablations one after the other in the process of the tests, which replace parts of it."""
    monkeypatch.setattr("tinystories.commands.ablations.machine_jobs", lambda machine: 1)


@pytest.fixture
def quick(monkeypatch):
    """Write no pictures and no stories: they take most of the time of small runs, and have tests of their own."""
    # html first: imported after pictures had been changed, it would keep the fake.
    for module in ("html", "pictures"):
        monkeypatch.setattr(f"trainer.experiments.reporting.{module}.rendered", lambda drawing, theme, form: b"")
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    for module in ("training", "timed_training"):
        monkeypatch.setattr(f"tinystories.{module}.write_story", lambda *_, **__: "Once upon a time")


@pytest.fixture
def clock(monkeypatch):
    """Each look of the main thread at the clock is 4 ms later, and no other look: speeds do not matter."""
    looks = 0

    def now():
        nonlocal looks
        looks += threading.current_thread() is threading.main_thread()
        return looks / 250

    monkeypatch.setattr("time.perf_counter", now)
    monkeypatch.setattr("time.thread_time", now)


@pytest.fixture
def text(tmp_path):
    """A text file of 60 short stories."""
    return write_stories(tmp_path / "stories.txt")


@pytest.fixture
def flags(text, tmp_path):
    """Flags for a small run on that text: `[command, *flags]`."""
    return small_flags(text, tmp_path / "data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The directory of one trained model, shared by all tests: `run` is a copy to change."""
    folder = tmp_path_factory.mktemp("trained")
    flags = small_flags(write_stories(folder / "stories.txt"), folder / "data")
    assert main(["train", "--out", str(folder / "run"), *flags]) == 0
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run."""
    return shutil.copytree(trained, tmp_path / "run")
