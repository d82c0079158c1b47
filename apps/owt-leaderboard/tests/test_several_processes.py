"""Two processes on a CPU, with the environment that torchrun gives them."""

import json
import socket
import sys

import pytest
from conftest import PATIENCE, TINY, write_articles
from forked_run import ForkedRun

LIMIT = 20.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_two(directory, limit):
    """Two processes with this limit, and what came of each."""
    arguments = ["--recipe", "baseline", "--time-limit", f"{limit:g}s", "--device", "cpu", "--out", directory / "run"]
    arguments += ["--dataset", write_articles(directory / "articles.txt"), "--data-dir", directory / "data"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    runs = [
        ForkedRun(
            [*arguments, "--set", *TINY],
            directory / f"rank{rank}.txt",
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    return [run.end() for run in runs]


@pytest.mark.limits
@pytest.mark.skipif(sys.platform != "linux", reason="gloo as on Linux")
def test_one_process_prepares_and_the_limit_counts_for_all(tmp_path_factory):
    help_file = tmp_path_factory.mktemp("help") / "help.txt"
    ForkedRun(["--help"], help_file).end()  # imports everything, in the process that others are forked from
    for patience in PATIENCE:
        tmp_path, limit = tmp_path_factory.mktemp("two"), LIMIT * patience
        (code, printed, seconds, stolen), (other_code, other_printed, other_seconds, _) = run_two(tmp_path, limit)
        if (code, other_code) == (0, 0) or stolen < 1:
            break
    assert (code, other_code) == (0, 0), printed + other_printed
    preparing = float(printed.split("data prepared in ")[1].split(" s")[0])
    assert max(seconds, other_seconds) - preparing - stolen <= limit
    assert seconds - preparing > 0.6 * limit
    assert printed.count("tokenizer of ") == printed.count("Validation loss ") == 1
    assert "tokenizer of " not in other_printed
    assert "Validation loss " not in other_printed
    environment = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))
    assert environment["processes"] == 2
    assert len(json.loads((tmp_path / "run" / "sessions.json").read_text("utf-8"))["sessions"]) == 1
    if stolen < 1:
        assert "OVER THE LIMIT" not in (tmp_path / "run" / "entry.md").read_text("utf-8")
