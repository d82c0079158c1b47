import os
import signal
from functools import cache

import pytest
from hypothesis import settings

# torch is imported in the fixtures: the process of pytest-xdist that hands out the tests needs none.
settings.register_profile("quick", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# A shell that starts the tests in the background makes them, and all processes that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # which nohup ignores
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_flushing():
    """Flushing to the disk takes most of the time of such small runs; new interpreters that a test starts do flush."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def git_is_asked_once():
    """Each run would start three processes of git, which take as long as twenty steps."""
    from trainer.records import environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "describe_git", cache(environment.describe_git))
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The directory of an uninterrupted run."""
    from bigram_run import SHORT, train_without_pictures

    return train_without_pictures(tmp_path_factory.mktemp("whole") / "run", **SHORT)


@pytest.fixture
def timeless():
    """Reads the metrics of a run without what depends on the clock or the machine."""

    from trainer import read_metrics

    def read(run_dir):
        return [
            {name: value for name, value in record.items() if "second" not in name and name != "memory_bytes"}
            for record in read_metrics(run_dir)
        ]

    return read


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than training such small models."""
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)


@pytest.fixture
def quick(monkeypatch):
    """Reports without pictures, which take most of the time and have tests of their own."""
    for module in ("reporting.html", "reporting.pictures"):  # html first, or it would import the fake
        monkeypatch.setattr(f"trainer.experiments.{module}.rendered", lambda drawing, theme, form: b"")


@pytest.fixture
def auto_compiles():
    """compile="auto" compiles, as it does on CUDA."""
    from compiling_optimizers import auto_compiles

    with auto_compiles():
        yield
