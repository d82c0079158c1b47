from typing import NamedTuple

import pytest
from simulated_clock import simulated_clock
from small_runs import TINY, write_articles


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Run each test in its own folder, so that commands write nothing into the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path):
    return write_articles(tmp_path / "articles.txt")


class Finished(NamedTuple):
    directory: object
    arguments: list
    printed: str


FINISHED_LIMIT = 40.0


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of the command with two layers, finished on a simulated machine."""
    from contextlib import redirect_stdout
    from io import StringIO

    from owt_leaderboard.commands.train import main

    folder = tmp_path_factory.mktemp("finished")
    out = folder / "run"
    arguments = ["--recipe", "baseline", "--time-limit", f"{FINISHED_LIMIT:g}s", "--device", "cpu", "--out", str(out)]
    arguments += ["--dataset", str(write_articles(folder / "articles.txt")), "--data-dir", str(folder / "data")]
    arguments += ["--set", *TINY, "num_layers=2"]
    with simulated_clock(), redirect_stdout(StringIO()) as printed:
        assert main(arguments) == 0
    return Finished(out, arguments, printed.getvalue())


@pytest.fixture
def run(finished):
    """The directory of the finished run; not to be changed."""
    return finished.directory
